"""What clips weigh: each property by its slow definition, and a constant video by length alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.clips.test_budgets import (
    LENGTHS,
    SIZES,
    cut,
    thirds,
)
from vtc.core.allocation import allocate
from vtc.video.clips.weights import ClipWeights

NONE = dict(length=0, novelty=0, motion=0, density=0, relevance=0)


def only(name, exponent=1.0):
    """Weights that look at one property."""
    return ClipWeights(**{**NONE, name: exponent})


def unit(rows):
    """Rows of length one, by the definition; none is zero."""
    return np.array([row / np.linalg.norm(row) for row in rows])


@st.composite
def videos(draw):
    """Clips, and features without zeros."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    rows = rng.integers(-3, 4, (sum(lengths), 4)) + 0.25
    return cut(lengths), np.repeat(rows, 1 + rng.integers(0, 3, len(rows)), axis=0)[: len(rows)]


def slow_density(rows):
    return np.mean([[1 - a @ b for a in unit(rows)] for b in unit(rows)])


@given(video=videos())
def test_properties_by_definition(video):
    clips, rows = video
    parts = [rows[clip.start : clip.end] for clip in clips]
    motion = [np.mean([min(2, 1 - a @ b) for a, b in zip(unit(p), unit(p)[1:], strict=False)] or [0]) for p in parts]
    assert only("motion").weigh(clips, rows) == pytest.approx(1 + np.clip(motion, 0, 1), abs=1e-8)
    assert only("density").weigh(clips, rows) == pytest.approx([1 + slow_density(p) for p in parts], abs=1e-8)
    means = [unit(p).mean(axis=0) for p in parts]
    if min(np.linalg.norm(mean) for mean in means) < 1e-6:
        return
    new = [
        min(np.clip(1 - unit([means[i]])[0] @ unit([old])[0], 0, 1) for old in means[:i]) for i in range(1, len(means))
    ]
    first = np.mean(new) if new else 0
    assert only("novelty").weigh(clips, rows) == pytest.approx(1 + np.array([first, *new]), abs=1e-8)
    assert only("length").weigh(clips, rows) == pytest.approx([len(clip) / len(rows) for clip in clips])


@pytest.mark.parametrize(("frames", "size"), [(t, n) for t in LENGTHS for n in SIZES if t * n <= 16 * 49])
def test_density_of_tokens_by_definition(frames, size):
    tokens = np.random.default_rng(size).normal(size=(frames, size, 5)) + 0.5
    rows, clips = tokens.mean(axis=1), thirds(frames)
    found = only("density").weigh(clips, rows, tokens=tokens)
    wanted = [1 - np.mean(unit(t) @ unit(t).T) for t in (tokens[c.start : c.end].reshape(-1, 5) for c in clips)]
    assert found == pytest.approx(1 + np.array(wanted), abs=1e-8)
    # To show each frame twice says nothing new.
    twice = tuple(type(clip)(2 * clip.start, 2 * clip.end) for clip in clips)
    again = only("density").weigh(twice, np.repeat(rows, 2, axis=0), tokens=np.repeat(tokens, 2, axis=0))
    assert again == pytest.approx(found)


def test_density_counts_kinds_of_tokens():
    for kinds in (1, 2, 5, 10):
        tokens = np.eye(10)[np.arange(20) % kinds].reshape(2, 10, 10)
        found = only("density").weigh(cut([2]), np.ones((2, 3)), tokens=tokens)
        assert found == pytest.approx([2 - 1 / kinds])


@pytest.mark.parametrize("value", [1.0, 0.0, np.nan, np.inf, 1e300])
@pytest.mark.parametrize("frames", LENGTHS)
def test_a_constant_video_shares_by_length(value, frames):
    clips, rows = thirds(frames), np.full((frames, 4), value)
    lengths = [len(clip) for clip in clips]
    tokens = np.tile(np.random.default_rng(0).normal(size=(1, 6, 4)), (frames, 1, 1))
    for given_ in (dict(), dict(scores=np.ones(frames)), dict(scores=np.full(frames, np.nan)), dict(tokens=tokens)):
        weights = ClipWeights().weigh(clips, rows, **given_)
        assert weights / weights.sum() == pytest.approx(np.array(lengths) / frames)
    seconds = np.cumsum(np.arange(frames)) + 1.0
    weights = ClipWeights().weigh(clips, rows, seconds=seconds)
    shown = np.append(np.diff(seconds), np.median(np.diff(seconds)) if frames > 1 else 1)
    assert weights / weights.sum() == pytest.approx(
        np.array([shown[clip.start : clip.end].sum() for clip in clips]) / shown.sum()
    )


def test_each_property_is_worth_tokens():
    """A clip that is new, moves, holds more or answers the question gets more, and only for that property."""
    still, clips = np.eye(6)[[0] * 12], cut([4, 4, 4])
    new, moving = still.copy(), still.copy()
    new[8:] = np.eye(6)[1]
    moving[8:] = np.eye(6)[[0, 2, 0, 2]]
    scores = np.zeros(12)
    scores[9] = 1
    cases = {"novelty": dict(features=new), "motion": dict(features=moving), "density": dict(features=moving)}
    cases["relevance"] = dict(features=still, scores=scores)
    for name, given_ in cases.items():
        weights = only(name).weigh(clips, **given_)
        counts = allocate(weights, 30)
        assert counts[2] > counts[1], name
        assert allocate(only(name, 0).weigh(clips, **given_), 30) == [10, 10, 10]
        assert only(name, 3).weigh(clips, **given_) == pytest.approx(weights**3)
    assert only("relevance").weigh(clips, still, scores=scores).tolist() == [1, 1, 2]
    assert only("novelty").weigh(clips, new).tolist() == [1.5, 1, 2]


@given(video=videos(), data=st.data())
def test_finite_whatever_comes(video, data):
    clips, rows = video
    value = st.one_of(st.integers(-2, 2).map(float), st.floats(width=64))
    given_rows = data.draw(st.lists(st.tuples(value, value), min_size=len(rows), max_size=len(rows)))
    scores = data.draw(st.lists(value, min_size=len(rows), max_size=len(rows)))
    gaps = data.draw(st.lists(st.sampled_from([0.0, 0.5, 9.0]), min_size=len(rows), max_size=len(rows)))
    tokens = np.array(given_rows)[:, None, :] if data.draw(st.booleans()) else None
    kind = ClipWeights(**{name: data.draw(st.sampled_from([0, 0.5, 1, 32])) for name in NONE})
    weights = kind.weigh(clips, given_rows, seconds=np.cumsum(gaps), tokens=tokens, scores=scores)
    assert weights.shape == (len(clips),)
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtype_does_not_matter(dtype):
    rows = np.random.default_rng(0).integers(-8, 9, (16, 6)) / 4
    tokens = np.random.default_rng(1).integers(-8, 9, (16, 4, 6)) / 4
    clips = thirds(16)
    wanted = ClipWeights().weigh(clips, rows, tokens=tokens)
    found = ClipWeights().weigh(clips, torch.tensor(rows).to(dtype), tokens=torch.tensor(tokens).to(dtype))
    np.testing.assert_array_equal(found, wanted)


def test_no_clips_no_weights():
    assert ClipWeights().weigh((), np.zeros((0, 3))).tolist() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(features=np.ones(4)), r"features has shape \[4\]"),
        (dict(clips=cut([3])), "there are 4"),
        (dict(scores=[1, 2]), "scores has 2 entries for 4 frames"),
        (dict(seconds=[0, 1, 3, 2]), r"seconds\[3\]=2.0"),
        (dict(tokens=np.ones((3, 2, 2))), "tokens has 3 frames for 4 rows"),
        (dict(tokens=np.ones((4, 2))), r"tokens has shape \[2, 2\]; expected 3 dimensions"),
    ],
)
def test_refused(arguments, message):
    given_ = {"clips": cut([2, 2]), "features": np.ones((4, 3)), **arguments}
    with pytest.raises(ValueError, match=message):
        ClipWeights().weigh(**given_)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-1, ValueError, "motion=-1 .*0 to 32; 0 leaves the property out"),
        (math.nan, ValueError, "motion=nan"),
        (33, ValueError, "motion=33"),
        ("1", TypeError, "motion='1' is a str"),
        (True, TypeError, "motion=True is a bool"),
    ],
)
def test_exponents_refused(value, error, message):
    with pytest.raises(error, match=message):
        ClipWeights(motion=value)


def test_a_density_that_leaves_out_a_row_with_itself_is_found_out():
    """Negative control: without the pairs of a row with itself, showing frames twice would weigh."""
    rows = np.random.default_rng(0).normal(size=(4, 5))

    def density(x):
        size = len(x)
        return 1 - (np.sum(unit(x) @ unit(x).T) - size) / (size * (size - 1))

    assert density(rows) != pytest.approx(density(np.repeat(rows, 2, axis=0)), abs=0.01)
