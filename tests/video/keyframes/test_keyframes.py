"""Every keyframe selector: exactly `min(k, T)` frames, sorted and unique, whatever the frames hold."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.video.keyframes import (
    KEYFRAMES,
    MMR,
    Change,
    DCoDe,
    KeyframeSelector,
    KFFocus,
    MaxMin,
)

LENGTHS = (1, 2, 3, 4, 5, 7, 8, 16, 33)
NAMES = tuple(KEYFRAMES)
every = pytest.mark.parametrize("name", NAMES)


def check_places(places, count, k):
    """The contract of `select`."""
    assert places.dtype == np.int64
    assert places.ndim == 1
    assert len(places) == min(k, count), f"{len(places)} frames, not {min(k, count)}"
    assert places.tolist() == sorted(set(places.tolist())), f"not sorted and unique: {places}"
    assert not len(places) or (places[0] >= 0 and places[-1] < count)


def drawn(kind, count, seed=0):
    """Features `[count, 6]` of one kind, bf16-representable."""
    rows = np.random.default_rng(seed).integers(-8, 9, (count, 6)) / 4
    if kind == "constant":
        rows[:] = rows[0]
    if kind == "zeros":
        rows[:] = 0
    if kind == "scenes":
        rows = rows[np.arange(count) // 3]
    if kind == "some NaN":
        rows[::3] = np.nan
    if kind == "all NaN":
        rows[:] = np.nan
    if kind == "inf":
        rows[count // 2] = np.inf
    return rows


KINDS = ("drawn", "constant", "zeros", "scenes", "some NaN", "all NaN", "inf")


def scores_of(count, kind="drawn"):
    """Scores `[count]` of one kind."""
    scores = np.random.default_rng(1).integers(0, 9, count) / 8
    some = np.where(scores > 0.5, scores, np.nan)
    return {"drawn": scores, "flat": scores * 0 + 3, "NaN": scores * np.nan, "some NaN": some}[kind]


def choose(name, rows, k, **given_):
    given_.setdefault("scores", scores_of(len(rows)) if KEYFRAMES.get(name).asks else None)
    return KEYFRAMES.get(name)().select(rows, k, **given_)


@every
@pytest.mark.parametrize("kind", KINDS)
def test_exact_count_at_every_length(name, kind):
    for count in LENGTHS:
        rows = drawn(kind, count)
        for k in {1, 2, 3, count // 2 or 1, max(1, count - 1), count, count + 1, 60}:
            check_places(choose(name, rows, k), count, k)


@every
@given(data=st.data())
def test_contract(name, data):
    count = data.draw(st.integers(1, 24))
    value = st.one_of(st.integers(-2, 2).map(float), st.floats(width=64))
    rows = np.array(data.draw(st.lists(st.tuples(value, value, value), min_size=count, max_size=count)))
    scores = np.array(data.draw(st.lists(value, min_size=count, max_size=count)))
    gaps = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 30.0]), min_size=count, max_size=count))
    k = data.draw(st.integers(1, 26))
    seconds = np.cumsum(gaps) if data.draw(st.booleans()) else None
    places = choose(name, rows, k, seconds=seconds, scores=scores)
    check_places(places, count, k)
    assert np.array_equal(places, choose(name, rows, k, seconds=seconds, scores=scores))


@every
def test_no_frames_no_places(name):
    check_places(choose(name, np.zeros((0, 4)), 3, scores=np.zeros(0), seconds=np.zeros(0)), 0, 3)


@every
@pytest.mark.parametrize("dtype", [np.float16, np.float32, torch.float16, torch.bfloat16, torch.float64])
def test_dtype_does_not_matter(name, dtype):
    for kind in ("drawn", "scenes", "some NaN"):
        rows = drawn(kind, 16)
        other = torch.tensor(rows).to(dtype) if isinstance(dtype, torch.dtype) else rows.astype(dtype)
        assert np.array_equal(choose(name, other, 5), choose(name, rows, 5))


@every
def test_order_of_channels_and_size_of_rows_do_not_matter(name):
    for seed in range(20):
        rows = drawn("scenes", 33, seed)
        places = choose(name, rows, 9)
        assert np.array_equal(choose(name, rows[:, ::-1], 9), places)
        assert np.array_equal(choose(name, rows * 1024 * 2.0 ** np.arange(33)[:, None], 9), places)


@every
def test_what_is_given_stays_as_it_is(name):
    rows, scores, seconds = drawn("some NaN", 16), scores_of(16), np.arange(16.0)
    kept = rows.copy(), scores.copy(), seconds.copy()
    choose(name, rows, 5, scores=scores, seconds=seconds)
    for now, before in zip((rows, scores, seconds), kept, strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("dcode", "aks", "mmr")])
@pytest.mark.parametrize("kind", ["constant", "zeros", "all NaN"])
def test_nothing_changes_then_uniform(name, kind):
    for count in LENGTHS:
        for seconds in (None, np.arange(count) ** 2.0):
            wanted = choose("uniform", drawn("drawn", count), 3, seconds=seconds)
            assert np.array_equal(choose(name, drawn(kind, count), 3, seconds=seconds), wanted)


@pytest.mark.parametrize("name", [name for name in NAMES if KEYFRAMES.get(name).asks])
@pytest.mark.parametrize("kind", ["flat", "NaN"])
def test_flat_scores_then_uniform(name, kind):
    for count in LENGTHS:
        for seconds in (None, np.arange(count) ** 2.0):
            wanted = choose("uniform", drawn("drawn", count), 3, seconds=seconds)
            found = choose(name, drawn("drawn", count), 3, scores=scores_of(count, kind), seconds=seconds)
            assert np.array_equal(found, wanted)


@pytest.mark.parametrize("name", ["aks", "mmr"])
def test_a_frame_without_a_score_is_no_reason(name):
    scores = scores_of(16)
    scores[[3, 8]] = np.nan, np.inf
    low = np.where(np.isfinite(scores), scores, np.nanmin(scores))
    rows = drawn("drawn", 16)
    assert np.array_equal(choose(name, rows, 4, scores=scores), choose(name, rows, 4, scores=low))


@pytest.mark.parametrize("name", ["change", "kffocus", "maxmin"])
def test_a_row_that_is_nan_is_no_event(name):
    rows = drawn("constant", 16)
    rows[[0, 9]] = np.nan
    assert choose(name, rows, 4).tolist() == choose("uniform", rows, 4).tolist()
    rows[0], rows[9] = rows[1], -1
    assert 9 in choose(name, rows, 4)  # negative control: a row that says something there is one


@every
def test_a_selector_that_asks_says_so(name):
    if KEYFRAMES.get(name).asks:
        with pytest.raises(ValueError, match=rf"scores=None, but '{name}' chooses by relevance.*'uniform'"):
            KEYFRAMES.get(name)().select(drawn("drawn", 5), 2)
    else:
        bare = KEYFRAMES.get(name)().select(drawn("drawn", 5), 2)
        assert np.array_equal(bare, choose(name, drawn("drawn", 5), 2, scores=scores_of(5)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(k=0), ValueError, "k=0 .*at least 1"),
        (dict(k=2.0), TypeError, "k=2.0 is a float"),
        (dict(k=True), TypeError, "k=True is a bool"),
        (dict(features=np.zeros(4)), ValueError, r"features has shape \[4\]; expected 2 dimensions"),
        (dict(features=[["a"]]), ValueError, "features=.* is no array of numbers"),
        (dict(seconds=[0, 2, 1]), ValueError, r"seconds\[2\]=1.0 must be finite and not before"),
        (dict(seconds=[0, np.nan, 1]), ValueError, r"seconds\[1\]=nan"),
        (dict(seconds=[0, 1]), ValueError, "seconds has 2 entries for 3 frames"),
        (dict(scores=[0, 1]), ValueError, "scores has 2 entries for 3 frames"),
    ],
)
def test_refused(arguments, error, message):
    given_ = {"features": np.eye(3), "k": 2, "scores": [1, 2, 3], **arguments}
    with pytest.raises(error, match=message):
        MMR().select(given_.pop("features"), given_.pop("k"), **given_)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Change(steady=1.5), ValueError, r"steady=1.5 .*\[0, 1\]"),
        (lambda: DCoDe(even="x"), TypeError, "even='x' is a str"),
        (lambda: DCoDe(similarity="min"), ValueError, "similarity='min' is unknown; expected 'mean' or 'max'"),
        (lambda: KFFocus(keys=float("nan")), ValueError, "keys=nan"),
        (lambda: MaxMin(time=-1), ValueError, "time=-1 .*at least 0"),
        (lambda: MaxMin(time=None), TypeError, "time=None is a NoneType"),
        (lambda: KEYFRAMES.get("aks")(depth=1.5), TypeError, "depth=1.5 is a float"),
        (lambda: KEYFRAMES.get("aks")(depth=-1), ValueError, "depth=-1 .* at least 0"),
        (lambda: KEYFRAMES.get("maxmim"), ValueError, "unknown keyframe selector 'maxmim'; did you mean 'maxmin'"),
    ],
)
def test_parameters_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@every
def test_parameters_are_frozen(name):
    selector = KEYFRAMES.get(name)()
    assert selector.name == name
    assert selector == KEYFRAMES.get(name)()
    with pytest.raises((FrozenInstanceError, AttributeError)):
        selector.time = 2


class Twice(KeyframeSelector):
    """Chooses one frame k times."""

    name = "twice"

    def choose(self, frames, k):
        return np.zeros(k, dtype=np.int64)


def test_a_frame_chosen_twice_is_found_out():
    """Negative control: the base does not let a selector answer too few."""
    with pytest.raises(AssertionError, match=r"twice chose \[0, 0\], not 2 frames"):
        Twice().select(np.eye(3), 2)
    with pytest.raises(AssertionError, match="not sorted and unique"):
        check_places(np.array([0, 0]), 3, 2)


def test_import_loads_neither_torch_nor_transformers():
    script = (
        "import sys; import vtc.video.keyframes, vtc.video.clips.weights, vtc.video.clips.budgets; "
        "print([name for name in ('torch', 'transformers', 'cv2', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
