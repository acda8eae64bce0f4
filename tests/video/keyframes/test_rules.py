"""What each keyframe selector chooses: against released answers, slow oracles, and rules with the known defects."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.video.keyframes.test_keyframes import check_places
from vtc.video.clips.clip import Clip
from vtc.video.clips.frame_arrays import changes, relevance, unit_rows
from vtc.video.keyframes import (
    AKS,
    MMR,
    Change,
    DCoDe,
    KFFocus,
    MaxMin,
    Segments,
    Uniform,
)
from vtc.video.keyframes.spread import UNIT, middles, spread

REFERENCE = dict(np.load(Path(__file__).parents[2] / "data" / "reference_keyframes.npz"))
CASES = ("s1", "s2")
cases = pytest.mark.parametrize("case", CASES)
NONE = np.zeros((600, 1))


@st.composite
def videos(draw):
    """Features of few kinds of frames, in runs, with scores; and a k below their number."""
    count = draw(st.integers(2, 20))
    rows = np.random.default_rng(draw(st.integers(0, 99))).integers(-4, 5, (count, 5)) / 2
    rows = rows[np.sort(draw(st.lists(st.integers(0, count - 1), min_size=count, max_size=count)))]
    scores = np.array(draw(st.lists(st.integers(0, 8), min_size=count, max_size=count))) / 8
    return rows, scores, draw(st.integers(1, count - 1))


def cosine(a, b):
    """By the definition; zeros are like zeros alone."""
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size else float(not a.any() and not b.any())


@given(count=st.integers(1, 60), data=st.data())
def test_uniform_is_the_middle_of_equal_parts(count, data):
    k = data.draw(st.integers(1, count))
    wanted = [int((i + 0.5) * count / k + 1e-9) for i in range(k)]
    assert Uniform().select(np.zeros((count, 1)), k).tolist() == wanted
    for fps in (2, 29.97, 1 / 3):
        assert Uniform().select(np.zeros((count, 1)), k, seconds=7 + np.arange(count) / fps).tolist() == wanted


def test_uniform_follows_time_not_frames():
    seconds = np.concatenate([np.arange(0, 8, 0.5), np.arange(8, 16, 2)])  # 16 frames, then 4 in as much time
    places = Uniform().select(np.zeros((20, 1)), 4, seconds=seconds)
    # The last frame is taken to be shown half a second, as most are: the whole takes 14.5.
    assert seconds[places].tolist() == [1.5, 5, 8, 12]
    assert Uniform().select(np.zeros((20, 1)), 4).tolist() != places.tolist()


def test_a_long_frame_is_chosen_once():
    seconds = [0, 100, 101, 102, 103]
    assert Uniform().select(np.zeros((5, 1)), 3, seconds=seconds).tolist() == [0, 2, 4]


@given(mass=st.lists(st.integers(0, 30), min_size=1, max_size=20), data=st.data())
def test_spread_by_hand(mass, data):
    """Against quantiles of the mass, cut at one part a frame by halving intervals."""
    k = data.draw(st.integers(1, len(mass)))
    places = spread(np.array(mass, dtype=float), len(mass), k)
    check_places(places, len(mass), k)
    if sum(m > 0 for m in mass) < k:
        assert {i for i, m in enumerate(mass) if m} <= set(places.tolist())
        return
    low, high = 0.0, 1e6
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if np.minimum(1, level * np.array(mass)).sum() < k else (low, level)
    ends = np.minimum(1, high * np.array(mass)).cumsum()
    for i, place in enumerate(places):
        start = ends[place - 1] if place else 0.0
        assert start - 32 / UNIT <= i + 0.5 <= ends[place] + 32 / UNIT


def test_change_accumulates_equally():
    angles = np.repeat([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [1, 1, 1, 1, 1, 30])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert Change(steady=0).select(rows, 5).tolist() == [1, 2, 3, 4, 5]
    assert Change(steady=1).select(rows, 5).tolist() == middles(35, 5).tolist()
    between = Change(steady=0.5).select(rows, 6).tolist()
    assert sum(place <= 5 for place in between) in (3, 4)
    # Steps of 1, 4, 1, ... sixteenths: whole parts of the change lie between the choices.
    steps = np.cumsum([0.0] + [0.05, 0.1] * 12)
    rows = np.stack([np.cos(steps), np.sin(steps)], axis=1)
    held = np.concatenate([[0], np.cumsum(changes(unit_rows(rows))[1:])])
    places = Change(steady=0).select(rows, 6)
    assert np.ptp(np.diff(held[places])) <= 2 * np.diff(held).max()


def repeated_quantiles(mass, k):
    """Plain quantiles, which meet a heavy frame more than once."""
    ends = np.cumsum(mass) / np.sum(mass)
    return np.searchsorted(ends, (np.arange(k) + 0.5) / k, side="right")


def test_a_heavy_frame_met_twice_is_found_out():
    """Negative control: quantiles that are not mended."""
    mass = np.array([1.0, 1, 9, 1])
    with pytest.raises(AssertionError, match="not sorted and unique"):
        check_places(repeated_quantiles(mass, 3), 4, 3)
    assert 2 in spread(mass, 4, 3)


def dcode_slowly(rows, k, even, pool):
    """From the description, one cosine at a time."""
    first = max(1, int(k * even))
    chosen = [int(i) for i in np.linspace(0, len(rows) - 1, first)]
    while len(chosen) < k:
        rest = [i for i in range(len(rows)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: (round(pool([cosine(rows[i], rows[j]) for j in chosen]), 9), i)))
    return sorted(chosen)


@cases
@pytest.mark.parametrize(("k", "even"), [(15, 0.85), (25, 0.8)])
def test_dcode_is_the_released_choice(case, k, even):
    frames, wanted = REFERENCE[f"{case}/frames"], REFERENCE[f"{case}/dcode_{k}_{even}"]
    assert DCoDe(even).select(frames, k).tolist() == wanted.tolist()
    assert DCoDe(even, "max").select(frames, k).tolist() != wanted.tolist()  # negative control: the mean, not the max
    assert DCoDe(even).select(frames[::-1], k).tolist() != wanted.tolist()


@given(video=videos(), even=st.sampled_from([0.0, 0.3, 0.85, 1.0]))
def test_dcode_by_hand(video, even):
    rows, _, k = video
    assert DCoDe(even).select(rows, k).tolist() == dcode_slowly(rows, k, even, np.mean)
    assert DCoDe(even, "max").select(rows, k).tolist() == dcode_slowly(rows, k, even, max)


def test_more_frames_than_there_are():
    """Negative control: the released rule repeats frame 0."""
    frames = REFERENCE["s1/frames"]
    check_places(DCoDe().select(frames, 60), 50, 60)
    released = np.sort(np.concatenate([np.arange(50), np.zeros(10, dtype=np.int64)]))
    with pytest.raises(AssertionError, match="60 frames, not 50"):
        check_places(released, 50, 60)


def aks_released(scores, k, depth=5, threshold=0.8):
    """From the description, with its counts cut down to integers."""
    stretched = (scores - scores.min()) / (scores.max() - scores.min())
    out, open_ = [], [(0, len(scores), 0)]
    while open_:
        start, end, d = open_.pop()
        part = stretched[start:end]
        if d < depth and not np.sort(part)[::-1][:k].mean() - part.mean() > threshold and len(part) > 1:
            middle = start + len(part) // 2
            open_ += [(start, middle, d + 1), (middle, end, d + 1)]
        else:
            out += (start + np.argsort(-part, kind="stable")[: k // 2**d]).tolist()
    return np.array(sorted(out), dtype=np.int64)


@cases
def test_aks_is_the_released_choice(case):
    scores = REFERENCE[f"{case}/aks_scores"]
    wanted = REFERENCE[f"{case}/aks_32"].tolist()
    assert aks_released(scores, 32).tolist() == wanted
    assert AKS().select(NONE, 32, scores=scores).tolist() == wanted
    assert AKS(depth=4).select(NONE, 32, scores=scores).tolist() != wanted  # negative control


@cases
@pytest.mark.parametrize("k", [1, 2, 3, 4, 8, 16, 32, 64, 128])
def test_aks_is_exact_where_the_released_counts_fall_short(case, k):
    scores = REFERENCE[f"{case}/aks_scores"]
    places = AKS().select(NONE, k, scores=scores)
    check_places(places, 600, k)
    # Where the released counts are whole, a rule that stops at one frame a leaf is that rule.
    if k in (1, 2, 4, 8, 16, 32, 64, 128):
        assert places.tolist() == aks_released(scores, k, depth=min(5, k.bit_length() - 1)).tolist()


@cases
@pytest.mark.parametrize("k", [8, 16, 48, 100])
def test_short_counts_are_found_out(case, k):
    """Negative control: the released rule gives 0, 0, 32 and 96 frames, and none of it ends up at one end here."""
    scores = REFERENCE[f"{case}/aks_scores"]
    short = REFERENCE[f"{case}/aks_8"] if k == 8 else aks_released(scores, k)
    with pytest.raises(AssertionError, match=f"{k // 32 * 32} frames, not {k}"):
        check_places(short, 600, k)
    per_leaf = np.bincount(AKS().select(NONE, k, scores=scores) * 8 // 600, minlength=8)
    assert np.ptp(per_leaf) <= 4


def test_aks_flat_scores_are_nan_in_the_released_rule():
    """Negative control: min-max of constant scores."""
    flat = np.full(600, 0.25)
    with np.errstate(invalid="ignore"):
        stretched = (flat - flat.min()) / (flat.max() - flat.min())
    assert np.isnan(stretched).all()
    assert AKS().select(NONE, 16, scores=flat).tolist() == middles(600, 16).tolist()


def test_aks_stops_where_scores_stand_out():
    scores = np.full(64, 0.01)
    scores[[5, 6, 7, 8]] = 1.0, 0.9, 0.95, 0.99
    places = AKS().select(np.zeros((64, 1)), 4, scores=scores)
    assert places.tolist() == [5, 6, 7, 8]
    assert AKS(threshold=1).select(np.zeros((64, 1)), 4, scores=scores).tolist() != places.tolist()


def test_aks_leftovers_go_to_the_best_leaves():
    scores = np.zeros(64)
    scores[[20, 21, 50, 51]] = 0.5, 0.4, 1.0, 0.6
    places = AKS(threshold=1).select(np.zeros((64, 1)), 6, scores=scores).tolist()
    assert {20, 21, 50, 51} <= set(places)


@given(video=videos(), share=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_mmr_by_hand(video, share):
    rows, scores, k = video
    stretched = relevance(scores)
    if stretched is None:
        return
    chosen = [int(stretched.argmax())]
    while len(chosen) < k:

        def gain(i, picked=tuple(chosen)):
            return share * stretched[i] - (1 - share) * max(cosine(rows[i], rows[j]) for j in picked)

        rest = [i for i in range(len(rows)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: (round(-gain(i), 9), i)))
    assert MMR(share).select(rows, k, scores=scores).tolist() == sorted(chosen)


def test_mmr_turns_from_scores_to_diversity():
    rows = np.array([[1, 0], [1, 0], [1, 0.01], [0, 1.0]])
    scores = [0.9, 1.0, 0.95, 0.0]
    assert MMR(1).select(rows, 2, scores=scores).tolist() == [1, 2]
    assert MMR(0.3).select(rows, 2, scores=scores).tolist() == [1, 3]


@given(video=videos(), time=st.sampled_from([0.0, 0.3, 1.0]))
def test_maxmin_by_hand(video, time):
    rows, _, k = video
    if (rows == rows[0]).all():
        return
    unit = [row / (np.linalg.norm(row) or 1) for row in rows]
    blank = [not row.any() for row in rows]

    def usual(i):
        near = [unit[i] @ row + float(blank[i] and b) for row, b in zip(unit, blank, strict=True)]
        return round(-sum(near) / len(rows), 9)

    chosen = [min(range(len(rows)), key=lambda i: (usual(i), i))]
    scale = max(1 - cosine(row, rows[chosen[0]]) for row in rows)

    def far(i, picked):
        return min((1 - cosine(rows[i], rows[j])) / scale + time * abs(i - j) / len(rows) for j in picked)

    while len(chosen) < k:
        rest = [i for i in range(len(rows)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: (round(-far(i, chosen), 9), i)))
    assert MaxMin(time).select(rows, k).tolist() == sorted(chosen)


@given(video=videos(), keys=st.sampled_from([0.0, 0.5, 1.0]))
def test_kffocus_has_two_densities(video, keys):
    rows, _, k = video
    change = [0.0] + [round(1 - cosine(a, b), 9) for a, b in pairwise(rows)]
    if not any(change):
        return
    ranked = sorted((i for i, c in enumerate(change) if c > 0), key=lambda i: (-change[i], i))
    starts = sorted([0, *ranked[: max(1, int(k * keys + 0.5)) - 1]])
    places = KFFocus(keys).select(rows, k).tolist()
    assert set(starts) <= set(places)
    ends = [*starts[1:], len(rows)]
    others = [sum(a < place < b for place in places) for a, b in zip(starts, ends, strict=True)]
    sizes = [b - a - 1 for a, b in zip(starts, ends, strict=True)]
    for count, size in zip(others, sizes, strict=True):
        assert abs(count - (k - len(starts)) * size / max(1, sum(sizes))) < 1


def test_kffocus_in_one_group():
    rows = np.eye(2)[[0] * 6 + [1] * 6]
    assert KFFocus(0.5).select(rows, 4).tolist() == [0, 3, 6, 9]
    assert KFFocus(0).select(rows, 4).tolist() == [0, 2, 6, 10]


def test_a_flash_in_a_still_video_is_among_a_quarter_of_the_frames():
    """Each needle of the first sixty videos, by a plain layout of colors; `uniform` is the negative control."""
    from vtc.embedded.video import Video

    hits = {selector: [] for selector in (Uniform(), Change(), DCoDe(), KFFocus(), MaxMin())}
    for seed in range(2**41, 2**41 + 60):
        video = Video(seed)
        spans = [span for actor in video.actors if actor.role == "flash" for span in actor.life.spans]
        if video.kind != "needle":
            continue
        layout = video.pixels(96).reshape(video.frames, 8, 12, 8, 12, 3).mean(axis=(2, 4)) / 255
        rows = (layout - layout.mean(axis=(1, 2), keepdims=True)).reshape(video.frames, -1)
        for selector, found in hits.items():
            places = selector.select(rows, video.frames // 4)
            found.append(any(a <= place < b for a, b in spans for place in places))
    assert len(hits[Uniform()]) >= 8
    assert np.mean(hits.pop(Uniform())) <= 0.7
    assert {selector.name: np.mean(found) for selector, found in hits.items()} == dict.fromkeys(
        ("change", "dcode", "kffocus", "maxmin"), 1.0
    )


def test_every_segment_is_sampled_alike():
    rows = np.repeat(np.eye(3), [12, 2, 4], axis=0)
    # Six of three segments of 12, 2 and 4 frames; the frame in the middle of each part.
    assert Segments().select(rows, 6).tolist() == [3, 9, 12, 13, 15, 17]
    assert Uniform().select(rows, 6).tolist() == [1, 4, 7, 10, 13, 16]
    # A segment of two frames gives both, the others share the rest.
    assert Segments().select(rows, 9).tolist() == [1, 4, 7, 10, 12, 13, 14, 16, 17]
    # Fewer frames than segments: the longest.
    assert Segments().select(rows, 1).tolist() == [6]
    assert Segments().select(rows, 2).tolist() == [6, 16]


def test_segments_of_one_kind_are_uniform():
    assert Segments().select(np.ones((20, 2)), 5).tolist() == Uniform().select(np.ones((20, 2)), 5).tolist()


def test_a_segmenter_of_frames_needs_its_clips():
    rule = Segments(segmenter="content")
    with pytest.raises(ValueError, match=r"clips=None, .*'content' of 'segments'"):
        rule.select(np.eye(6), 2)
    clips = [Clip(0, 1), Clip(1, 6)]
    assert rule.select(np.eye(6), 2, clips=clips).tolist() == [0, 3]
