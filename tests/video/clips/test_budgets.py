"""Clip budgets: exact over clips and frames or refused, at every length and size; and released rules that fail that."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtc import Budget
from vtc.core.allocation import allocate
from vtc.video.clips.budgets import (
    clip_budget,
    count,
    frame_weights,
    left_out,
)
from vtc.video.clips.clip import Clip
from vtc.video.clips.weights import ClipWeights

LENGTHS = (1, 2, 3, 4, 5, 7, 8, 16, 33)
SIZES = (1, 4, 49, 196)
KEEPS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def cut(lengths):
    """Clips of these lengths, one after the other."""
    ends = np.cumsum(lengths).tolist()
    return tuple(Clip(end - length, end) for length, end in zip(lengths, ends, strict=True))


def thirds(frames):
    """About three clips over `frames` frames."""
    return cut([len(part) for part in np.array_split(range(frames), min(3, frames))])


def check_budget(counts, clips, candidates, total, floor=0, clip_floor=1):
    """The contract of `clip_budget`."""
    assert all(type(own) is int for own in counts)
    assert sum(counts) == total, f"{sum(counts)} tokens, not {total}"
    for own, most in zip(counts, candidates, strict=True):
        assert min(floor, most) <= own <= most, f"{own} of {most} tokens with floor={floor}"
    for clip in clips:
        span = slice(clip.start, clip.end)
        assert sum(counts[span]) >= min(clip_floor, sum(candidates[span])), f"{clip} is left out"


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["drawn", "constant", "NaN"])
def test_exact_at_every_length_and_size(frames, size, kind):
    rows = np.random.default_rng(frames).normal(size=(frames, 8)) * (kind != "constant") + (kind == "constant")
    rows[::2] += np.nan if kind == "NaN" else 0
    clips, candidates = thirds(frames), [size] * frames
    weights = ClipWeights().weigh(clips, rows)
    for rule in ("even", "change", "first"):
        inside = np.concatenate([frame_weights(rows[clip.start : clip.end], rule) for clip in clips])
        for keep in KEEPS:
            total = count(candidates, keep)
            assert total == Budget(keep).count(frames * size)
            if total >= len(clips):
                counts = clip_budget(clips, candidates, total, weights, frame_weights=inside)
                check_budget(counts, clips, candidates, total)
            if total >= frames:
                counts = clip_budget(clips, candidates, total, weights, frame_weights=inside, floor=1)
                check_budget(counts, clips, candidates, total, floor=1)
                assert min(counts) >= 1
            counts = clip_budget(clips, candidates, total, weights, frame_weights=inside, clip_floor=0)
            check_budget(counts, clips, candidates, total, clip_floor=0)
            if keep == 1.0:
                assert counts == candidates


@given(data=st.data())
def test_contract(data):
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    clips, frames = cut(lengths), sum(lengths)
    number = st.one_of(st.sampled_from([0.0, 1.0, math.nan, math.inf]), st.floats(0, 9))
    candidates = data.draw(st.lists(st.integers(0, 9), min_size=frames, max_size=frames))
    weights = data.draw(st.lists(number, min_size=len(clips), max_size=len(clips)))
    inside = data.draw(st.none() | st.lists(number, min_size=frames, max_size=frames))
    floor, clip_floor = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    least = [min(floor, own) for own in candidates]
    high = [sum(candidates[clip.start : clip.end]) for clip in clips]
    low = [max(sum(least[c.start : c.end]), min(clip_floor, most)) for c, most in zip(clips, high, strict=True)]
    total = data.draw(st.integers(0, sum(candidates) + 2))

    def share():
        return clip_budget(clips, candidates, total, weights, frame_weights=inside, floor=floor, clip_floor=clip_floor)

    if sum(low) <= total <= sum(high):
        counts = share()
        check_budget(counts, clips, candidates, total, floor, clip_floor)
        assert counts == share()
        for clip, part in zip(clips, allocate(weights, total, min_per=low, max_per=high), strict=True):
            assert sum(counts[clip.start : clip.end]) == part
    else:
        with pytest.raises(ValueError, match=rf"total={total} (cannot give each|is above)"):
            share()


def test_heavier_clips_get_more_and_full_ones_pass_on():
    clips = cut([4, 4])
    assert clip_budget(clips, [10] * 8, 40, [1, 3]) == [3, 3, 2, 2, 8, 8, 7, 7]
    assert clip_budget(clips, [10] * 8, 60, [1, 3]) == [5] * 4 + [10] * 4
    assert clip_budget(clips, [10] * 8, 8, [0, 1]) == [1, 0, 0, 0, 2, 2, 2, 1]


def test_the_first_frame_of_a_clip_is_densest():
    inside = np.concatenate([frame_weights(np.ones((4, 3)), "first", lead=9)] * 2)
    assert clip_budget(cut([4, 4]), [9] * 8, 24, [1, 1], frame_weights=inside) == [9, 1, 1, 1] * 2
    assert clip_budget(cut([4, 4]), [9] * 8, 24, [1, 1]) == [3] * 8


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(total=1), ValueError, "total=1 cannot give each of 2 clips.*takes 2; keep at least 2.*clip_floor=0"),
        (dict(total=7, floor=2), ValueError, "total=7 cannot give each of 4 frames floor=2.*takes 8; keep at least 8"),
        (dict(total=17), ValueError, "total=17 is above the 16 tokens"),
        (dict(total=-1), ValueError, "total=-1 .*at least 0"),
        (dict(total=4.0), TypeError, "total=4.0 is a float"),
        (dict(floor=-1), ValueError, "floor=-1"),
        (dict(clip_floor=0.5), TypeError, "clip_floor=0.5"),
        (dict(candidates=[4, 4, 4]), ValueError, "there are 3"),
        (dict(candidates=[4, 4, 4, 4.0]), TypeError, r"candidates\[3\]=4.0"),
        (dict(candidates=[4, 4, 4, -4]), ValueError, r"candidates\[3\]=-4"),
        (dict(weights=[1]), ValueError, "weights has 1 entries for 2 clips"),
        (dict(weights=[1, -1]), ValueError, r"weights\[1\]=-1.0"),
        (dict(frame_weights=[1]), ValueError, "frame_weights has 1 entries for 4 frames"),
        (dict(clips=(Clip(0, 2), Clip(3, 4))), ValueError, "should begin at 2"),
    ],
)
def test_refused(arguments, error, message):
    given_ = {"clips": cut([2, 2]), "candidates": [4] * 4, "total": 8, "weights": [1, 1], **arguments}
    with pytest.raises(error, match=message):
        clip_budget(**given_)


def test_a_loss_is_stated():
    clips = cut([2, 2, 2])
    counts = clip_budget(clips, [4] * 6, 2, [1, 5, 5], clip_floor=0)
    assert counts == [0, 0, 1, 0, 1, 0]
    assert left_out(clips, counts) == (clips[0],)
    assert left_out(clips, [1] * 6) == ()


def test_no_video_no_tokens():
    assert clip_budget((), [], 0, []) == []
    assert count([], 0.5) == 0


def test_frame_weights_by_rule():
    rows = np.array([[1.0, 0], [1, 0], [0, 1], [0, -1], [1, 1]])
    assert frame_weights(rows, "even").tolist() == [1] * 5
    assert frame_weights(rows, "first", lead=4).tolist() == [1, 0.25, 0.25, 0.25, 0.25]
    assert frame_weights(rows, "change", lead=4).tolist() == [1, 0.25, 1, 1, 1]
    near = frame_weights(np.array([[1.0, 0], [3, 4]]), "change", lead=5)
    assert near == pytest.approx([1, 0.2 + 0.8 * 0.4])
    assert frame_weights(np.full((3, 2), np.nan), "change", lead=2).tolist() == [1, 0.5, 0.5]
    assert frame_weights(np.zeros((0, 2))).tolist() == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(rule="last"), ValueError, "rule='last' is unknown; expected one of 'even', 'change', 'first'"),
        (dict(lead=0.5), ValueError, "lead=0.5 .*at least 1"),
        (dict(lead=math.nan), ValueError, "lead=nan"),
        (dict(lead="x"), TypeError, "lead='x' is a str"),
    ],
)
def test_frame_weights_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        frame_weights(np.ones((2, 2)), **arguments)


CLIPS, CANDIDATES = cut([8, 8]), [49] * 16


def evs(total):
    """The least similar tokens of the whole video: a still shot leaves its first frame and nothing else."""
    new = np.zeros((16, 49))
    new[[0, 8]] = 2
    keep = np.zeros(16 * 49, dtype=bool)
    keep[np.argsort(-new.ravel(), kind="stable")[:total]] = True
    return keep.reshape(16, 49).sum(axis=1).tolist()


def test_frames_without_a_token_are_found_out():
    """Negative control: EVS' global order starves frames; a floor does not."""
    check_budget(evs(98), CLIPS, CANDIDATES, 98)
    with pytest.raises(AssertionError, match="0 of 49 tokens with floor=1"):
        check_budget(evs(98), CLIPS, CANDIDATES, 98, floor=1)
    counts = clip_budget(CLIPS, CANDIDATES, 98, [1, 1], frame_weights=([1.0] + [0.0] * 7) * 2, floor=1)
    assert counts == [42, *[1] * 7] * 2
    with pytest.raises(AssertionError, match="is left out"):
        check_budget(evs(49), CLIPS, CANDIDATES, 49)


@pytest.mark.parametrize(
    "wrong",
    [
        [math.ceil(0.15 * 49)] * 16,  # HoliTom: each frame rounded up
        [math.ceil(49 * 0.15 * 1.25)] * 16,  # FlashVID: a quarter more, to be cut inside the model
        [max(1, round(0.15 * (1 + p - 1 / 16) * 49)) for p in np.eye(16)[3]],  # VidCom2: each frame rounded for itself
        [int(0.15 * 49)] * 16,  # FastVID: each frame rounded down
    ],
    ids=["holitom", "flashvid", "vidcom2", "fastvid"],
)
def test_sums_that_are_not_what_was_declared_are_found_out(wrong):
    """Negative control: the released roundings miss the declared count."""
    total = count(CANDIDATES, 0.15)
    with pytest.raises(AssertionError, match=f"tokens, not {total}"):
        check_budget(wrong, CLIPS, CANDIDATES, total)
    check_budget(clip_budget(CLIPS, CANDIDATES, total, [1, 1]), CLIPS, CANDIDATES, total)
