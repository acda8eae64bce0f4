"""Allocators: exact shares, floors, saturation, parameters."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.test_stages import exact_rows, item, layouts
from vtc import Layout, Recipe
from vtc.core.budget import share
from vtc.stages import (
    Density,
    Even,
    Joint,
    KCenter,
    MaxSum,
    Thumbnail,
)
from vtc.stages.allocate.minimums import lowered, shared

floored = pytest.mark.parametrize("kind", [Even, Thumbnail, Density])


@st.composite
def sharings(draw) -> tuple[int, list[float], list[int], int]:
    """total, weights, candidates, floor: such that each unit can have its floor."""
    candidates = draw(st.lists(st.integers(0, 40), min_size=1, max_size=6))
    weights = [draw(st.sampled_from([0.0, 0.01, 1.0, 2.5, 30.0])) for _ in candidates]
    floor = draw(st.integers(0, 6))
    low = sum(min(floor, own) for own in candidates)
    return draw(st.integers(low, sum(candidates))), weights, candidates, floor


@given(given=sharings())
def test_shares_are_exact_between_floor_and_candidates(given):
    total, weights, candidates, floor = given
    counts = shared(total, weights, candidates, floor)
    assert sum(counts) == total
    assert all(min(floor, own) <= count <= own for count, own in zip(counts, candidates, strict=True))


@given(given=sharings())
def test_a_floor_that_binds_nowhere_changes_nothing(given):
    total, weights, candidates, floor = given
    free = shared(total, weights, candidates)
    if all(count >= min(floor, own) for count, own in zip(free, candidates, strict=True)):
        assert shared(total, weights, candidates, floor) == free
    if any(weights):
        assert free == share(total, weights, caps=candidates)


def test_only_who_is_below_the_floor_is_raised():
    assert shared(100, [100, 100, 1], [100, 100, 1000], 0) == [50, 50, 0]
    assert shared(100, [100, 100, 1], [100, 100, 1000], 10) == [45, 45, 10]
    assert shared(100, [100, 50, 1], [100, 100, 5], 10) == [63, 32, 5]


def test_who_reaches_the_floor_by_rounding_is_not_raised():
    assert share(5, [2, 8, 5], caps=[9] * 3, floors=[1] * 3) == [1, 2, 2]  # what raising the first would give
    assert shared(5, [2, 8, 5], [9] * 3, 1) == shared(5, [2, 8, 5], [9] * 3) == [1, 3, 1]


def test_what_a_full_unit_cannot_take_is_shared_again():
    assert shared(60, [10, 1, 1], [20, 40, 40]) == [20, 20, 20]
    assert shared(60, [10, 0, 0], [20, 40, 40]) == [20, 20, 20]
    assert shared(61, [10, 1, 0], [20, 40, 40]) == [20, 40, 1]


def test_where_nothing_has_weight_candidates_count():
    assert shared(10, [0, 0], [30, 10]) == shared(10, [30, 10], [30, 10]) == [8, 2]


@floored
def test_a_floor_out_of_reach_gives_way(kind):
    layout = Layout.join([Layout.of_grid(2, 2, kind="tile")] * 3)
    tokens = item(exact_rows(12), layout)
    assert list(kind(floor=3).allocate(tokens, 9)) == [3, 3, 3]
    assert sorted(kind(floor=3).allocate(tokens, 8)) == [2, 3, 3]
    assert sorted(kind(floor=3).allocate(tokens, 2)) == [0, 1, 1]


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), floor=st.integers(0, 12), data=st.data())
def test_a_floor_gives_way_no_further_than_it_must(sizes, floor, data):
    total = data.draw(st.integers(0, sum(sizes)))
    found = lowered(total, sizes, floor)
    fitting = [low for low in range(floor + 1) if sum(min(low, own) for own in sizes) <= total]
    assert found == max(fitting)
    counts = shared(total, [1.0] * len(sizes), sizes, floor)
    assert sum(counts) == total
    assert all(count >= min(found, own) for count, own in zip(counts, sizes, strict=True))


@floored
@given(layout=layouts(), floor=st.integers(0, 4), data=st.data())
def test_floors_hold(kind, layout, floor, data):
    candidates = layout.candidates
    least = [min(floor, own) for own in candidates]
    total = data.draw(st.integers(sum(least), sum(candidates)))
    counts = kind(floor=floor).allocate(item(exact_rows(len(layout)), layout), total)
    assert sum(counts) == total
    assert all(a <= b <= c for a, b, c in zip(least, counts, candidates, strict=True))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Even(floor=-1), ValueError, "floor=-1 .*at least 0"),
        (lambda: Even(floor=1.0), TypeError, "floor=1.0 is a float"),
        (lambda: Even(floor=True), TypeError, "floor=True is a bool"),
        (lambda: Thumbnail(floor=-2), ValueError, "floor=-2"),
        (lambda: Thumbnail(temperature=0), ValueError, "temperature=0 .*above 0"),
        (lambda: Thumbnail(temperature=math.inf), ValueError, "temperature=inf"),
        (lambda: Thumbnail(temperature=math.nan), ValueError, "temperature=nan"),
        (lambda: Thumbnail(temperature="10"), TypeError, "temperature='10' is a str"),
        (lambda: Density(similarity=1), ValueError, r"similarity=1 .* \[-1, 1\)"),
        (lambda: Density(similarity=-1.5), ValueError, "similarity=-1.5"),
        (lambda: Density(peers=-0.1), ValueError, r"peers=-0.1 .* \[0, 1\)"),
        (lambda: Density(peers=math.nan), ValueError, "peers=nan"),
        (lambda: Density(peers=None), TypeError, "peers=None is a NoneType"),
        (lambda: Density(floor=True), TypeError, "floor=True"),
    ],
)
def test_wrong_parameters_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    "stage",
    [Even(floor=2), Joint(), Thumbnail(Fraction(5, 2), floor=1), Density(0, np.float32(0.2), floor=3)],
    ids=lambda stage: stage.name,
)
def test_parameters_travel_in_recipe_files(stage):
    mine = Recipe((stage, KCenter()))
    assert Recipe.from_dict(json.loads(json.dumps(mine.to_dict()))) == mine


def test_whole_is_one_pool():
    """Every token of the second unit repeats the first one's only row: a joint choice wants none of them twice."""
    layout = Layout.join([Layout.of_grid(1, 4, kind="thumbnail"), Layout.of_grid(1, 4, kind="tile")])
    tokens = item(torch.eye(8)[[0, 1, 2, 3, 0, 0, 0, 0]], layout)
    assert Recipe((Joint(), KCenter())).reduce(tokens, 4).anchor.tolist() == [0, 1, 2, 3]
    assert Recipe((Even(), KCenter())).reduce(tokens, 4).anchor.tolist() == [0, 1, 4, 5]
    assert Recipe((Joint(), MaxSum())).reduce(tokens, 4).anchor.tolist() == [0, 1, 2, 3]
