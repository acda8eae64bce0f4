"""What every segmenter must hold, whatever its rule. All enrolled ones are in it by their registry."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtc.video.clips.clip import check_cover
from vtc.video.clips.segmenters import (
    SEGMENTERS,
    Adaptive,
    Content,
    DensitySegmenter,
    EvenSegmenter,
    Hash,
    Neighbour,
    SceneCut,
    segment,
)

SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 16, 33)
RULES = (
    Content(),
    Adaptive(),
    Adaptive(reach=1, floor=1),
    Hash(),
    Neighbour(),
    Neighbour(reach=0, radius=0),
    Neighbour(reach=2, radius=3, least=2, window=5),
    Neighbour(threshold=0.5, most=2, window=1),
    Neighbour.tdc(3, window=8),
    Neighbour.tdc(24),
    Neighbour.dyseg(),
    DensitySegmenter(),
    DensitySegmenter(neighbours=7, apart=0),
    EvenSegmenter(parts=3),
    EvenSegmenter(every=1.0),
)


def series(wants: str, frames: int, seed: int = 0) -> np.ndarray:
    """Shots of 3 frames or so, of the kind that a segmenter wants."""
    rng = np.random.default_rng(seed)
    shots = np.cumsum(rng.random(frames) < 0.3)
    if wants == "feature":
        return (rng.normal(size=(frames + 1, 12))[shots] + rng.normal(size=(frames, 12)) / 20).astype(np.float32)
    images = rng.integers(0, 256, (frames + 1, 12, 16, 3))[shots] + rng.integers(-9, 10, (frames, 12, 16, 3))
    return images.clip(0, 255).astype(np.uint8)


def starts(values, rule) -> list[int]:
    return [clip.start for clip in segment(values, range(len(values)), rule)]


def pushed(values, rule, *, flush: bool = True) -> list[SceneCut]:
    run = rule.begin()
    cuts = [cut for i, value in enumerate(values) for cut in run.push(i, value)]
    return cuts + (run.flush() if flush else [])


def test_all_enrolled_rules_are_tested():
    assert {type(rule) for rule in RULES} == {SEGMENTERS.get(name) for name in SEGMENTERS}
    assert all(SEGMENTERS.get(name).name == name for name in SEGMENTERS)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("frames", SIZES)
def test_any_length_is_covered(rule, frames):
    values = series(rule.wants, frames)
    seconds = [i / 2 for i in range(frames)]
    for bounds in ({}, {"min_seconds": 1.0}, {"max_seconds": 1.5}, {"min_seconds": 1.0, "max_seconds": 2.0}):
        clips = segment(values, seconds, rule, **bounds)
        check_cover(clips, frames)
        assert clips == segment(iter(values), iter(seconds), rule, **bounds)
    assert len(clips) >= min(frames, 1)
    assert segment(values, seconds, rule)[:1] == () or segment(values, seconds, rule)[0].reason == "start"


@pytest.mark.parametrize("rule", [rule for rule in RULES if not isinstance(rule, EvenSegmenter)], ids=repr)
def test_what_stands_still_is_one_clip(rule):
    for frames in SIZES[1:]:
        assert starts(np.repeat(series(rule.wants, 1), frames, 0), rule) == [0]
        assert starts(np.zeros_like(series(rule.wants, frames)), rule) == [0]


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.wants == "feature"], ids=repr)
def test_features_that_say_nothing_are_like_those_before(rule):
    for frames in SIZES[2:]:
        values = series("feature", frames, seed=frames)
        rng = np.random.default_rng(frames)
        lost = np.flatnonzero(rng.random(frames) < 0.4)
        filled, gaps = values.copy(), values.copy()
        for i in lost:
            gaps[i, rng.integers(12)] = rng.choice([np.nan, np.inf, -np.inf])
            filled[i] = filled[i - 1] if i else np.nan
        first = next((i for i in range(frames) if np.isfinite(filled[i]).all()), None)
        filled[: first or 0] = filled[first or 0]
        assert starts(gaps, rule) == (starts(filled, rule) if first is not None else [0])
        assert starts(np.full_like(values, np.nan), rule) == [0]


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.wants == "feature"], ids=repr)
@pytest.mark.parametrize("factor", [1.0, 2.0**-100, 2.0**100])
def test_the_dtype_and_the_scale_of_features_do_not_count(rule, factor):
    values = series("feature", 33)
    bits = np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFFFF0000)
    coarse = bits.view(np.float32)  # what bf16 can hold
    half = (coarse.astype(np.float16).astype(np.float32) == coarse).all(0)
    coarse = coarse[:, half]
    assert coarse.shape[1] > 2
    want = starts(coarse, rule)
    assert starts(coarse.astype(np.float16), rule) == want
    assert starts(coarse.astype(np.float64) * factor, rule) == want
    assert len(want) > 1


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(seed=st.integers(0, 2**32), frames=st.integers(1, 40), data=st.data())
def test_cuts_depend_on_no_more_than_the_lag(rule, seed, frames, data):
    values = series(rule.wants, frames, seed)
    whole = pushed(values, rule)
    assert [cut.index for cut in whole] == sorted({cut.index for cut in whole})
    seen = data.draw(st.integers(0, frames))
    early = pushed(values[:seen], rule, flush=False)
    assert early == whole[: len(early)]
    if rule.lag is None:
        assert early == []
    else:
        assert len(early) >= sum(cut.index + rule.lag < seen for cut in whole)


def test_a_lag_that_is_too_short_would_be_noticed():
    """Negative control: the property above tells a lag of 1 from one of 2."""
    values = np.repeat(np.eye(4, dtype=np.float32), 4, 0)
    rule = Neighbour(reach=1, radius=1)
    assert rule.lag == 2
    whole = pushed(values, rule)
    known = [len(pushed(values[:seen], rule, flush=False)) for seen in range(len(values) + 1)]
    assert any(known[s] < sum(cut.index + 1 < s for cut in whole) for s in range(len(known)))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_runs_share_nothing(rule):
    one, other = series(rule.wants, 20, seed=1), series(rule.wants, 20, seed=2)
    want = [pushed(one, rule), pushed(other, rule)]
    runs = [rule.begin(), rule.begin()]
    got: list[list[SceneCut]] = [[], []]
    for i in range(20):
        for run, cuts, values in zip(runs, got, (one, other), strict=True):
            cuts += run.push(i, values[i])
    assert [cuts + run.flush() for run, cuts in zip(runs, got, strict=True)] == want
    assert want[0] != want[1] or isinstance(rule, EvenSegmenter)
    with pytest.raises(FrozenInstanceError):
        setattr(rule, fields(rule)[0].name, 1)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_what_is_pushed_is_not_changed_and_not_kept(rule):
    values = series(rule.wants, 20)
    run, cuts = rule.begin(), []
    for i, value in enumerate(values):
        buffer = value.copy()
        cuts += run.push(i, buffer)
        assert (buffer == value).all()
        buffer[:] = 0  # as a reader does that fills one buffer again and again
    assert cuts + run.flush() == pushed(values, rule)


def test_misuse_is_named():
    run = Neighbour().begin()
    run.push(0.5, np.ones(3))
    with pytest.raises(ValueError, match=r"seconds=0\.5 of frame 1 .*after 0\.5"):
        run.push(0.5, np.ones(3))
    with pytest.raises(ValueError, match=r"seconds=nan of frame 1 .*finite"):
        run.push(float("nan"), np.ones(3))
    with pytest.raises(TypeError, match="seconds='1' of frame 1 is a str"):
        run.push("1", np.ones(3))
    with pytest.raises(ValueError, match=r"value is \(4,\), .*\(3,\)"):
        run.push(1, np.ones(4))
    with pytest.raises(TypeError, match="values of uint8; expected floats"):
        run.push(1, np.ones(3, np.uint8))
    with pytest.raises(ValueError, match=r"a feature is \(2, 3\); expected \[D\]"):
        run.push(1, np.ones((2, 3)))
    run.flush()
    with pytest.raises(ValueError, match="push after flush, at seconds=1"):
        run.push(1, np.ones(3))
    with pytest.raises(ValueError, match="flush after flush"):
        run.flush()
    with pytest.raises(TypeError, match="values of float64; expected uint8 RGB"):
        Content().begin().push(0, np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"frame is \(4, 4\); .*\[H, W, 3\]"):
        Content().begin().push(0, np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="seconds ends after 2"):
        segment(np.ones((3, 4)), range(2), Neighbour())
    with pytest.raises(ValueError, match="values ends after 3"):
        segment(np.ones((3, 4)), range(4), Neighbour())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Neighbour(threshold=1.5), r"threshold=1.5 .*\[-1, 1\]"),
        (lambda: Neighbour(threshold="low"), "threshold='low' is a str"),
        (lambda: Neighbour(threshold=None), "threshold=None and least=0 cut nothing"),
        (lambda: Neighbour(least=3, most=2), "most=2 is below 3"),
        (lambda: Neighbour(reach=-1), "reach=-1 is below 0"),
        (lambda: Neighbour(window=2.5), "window=2.5 is a float"),
        (lambda: Neighbour.dyseg(0), "clips=0 is below 1"),
        (lambda: DensitySegmenter(share=0), r"share=0 .*\(0, 1\]"),
        (lambda: DensitySegmenter(neighbours=True), "neighbours=True is a bool"),
        (lambda: DensitySegmenter(apart=float("nan")), "apart=nan "),
        (lambda: EvenSegmenter(parts=2, every=1.0), "parts=2 and every=1.0: set one"),
        (lambda: EvenSegmenter(every=0), "every=0 .*above 0"),
        (lambda: Content(threshold=0), r"threshold=0 .*\(0, 255\]"),
        (lambda: Content(width=2), "width=2 is below 8"),
        (lambda: Adaptive(floor=0), r"floor=0 .*\(0, 255\]"),
        (lambda: Adaptive(reach=0), "reach=0 is below 1"),
        (lambda: Hash(size=3, lowpass=1), "size=3 times lowpass=1 is odd"),
    ],
)
def test_parameters_are_checked(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_segmenters_load_no_torch():
    code = (
        "import sys, vtc.video.clips.segmenters, vtc.video.clips.frame_features\n"
        "print(sorted({'torch', 'transformers', 'timm'} & set(sys.modules)), 'cv2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] True"
