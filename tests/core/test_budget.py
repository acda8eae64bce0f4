"""Counts and shares are exact: against the same rules in fractions."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.filling import exact_parts, filled
from vtc import Budget
from vtc.core.budget import check_keep, share

shares = st.decimals(min_value=Decimal("0.0001"), max_value=1, places=4)
sizes = st.integers(1, 20_000)


@given(shares, sizes)
def test_a_share_is_rounded_half_up_as_written(keep: Decimal, candidates: int):
    exact = Fraction(keep) * candidates
    assert Budget(float(keep)).count(candidates) == max(1, floor(exact + Fraction(1, 2)))


@pytest.mark.parametrize(
    ("keep", "candidates", "count"),
    [
        (0.5, 5, 3),
        (0.15, 10, 2),
        (0.25, 2, 1),
        (0.35, 10, 4),
        (0.0001, 9, 1),
        (0.1, 576, 58),
        (0.25, 576, 144),
        (1.0, 7, 7),
    ],
)
def test_known_counts(keep, candidates, count):
    assert Budget(keep).count(candidates) == count


@given(st.integers(1, 50_000), sizes)
def test_an_int_is_a_ceiling(keep: int, candidates: int):
    assert Budget(keep).count(candidates) == min(keep, candidates)


@given(shares, shares, sizes, sizes)
def test_more_is_never_less(keep: Decimal, other: Decimal, candidates: int, more: int):
    low, high = sorted((float(keep), float(other)))
    few, many = sorted((candidates, more))
    assert Budget(low).count(few) <= Budget(high).count(few) <= few
    assert Budget(low).count(few) <= Budget(low).count(many)


@given(st.one_of(shares.map(float), st.integers(1, 100)))
def test_nothing_comes_from_nothing(keep):
    assert Budget(keep).count(0) == 0


@given(sizes)
def test_all_is_all(candidates: int):
    assert Budget(1.0).count(candidates) == candidates


@pytest.mark.parametrize("keep", [0, -1, -0.5, 0.0, 1.0000001, 1.5, 576.0, math.nan, math.inf, -math.inf, 10**400])
def test_a_keep_out_of_range_is_a_value_error(keep):
    if keep == 10**400:
        assert Budget(keep).count(5) == 5
        return
    with pytest.raises(ValueError, match=f"keep={keep}"):
        Budget(keep)


@pytest.mark.parametrize(
    "keep",
    [True, False, "0.25", None, [0.5], 1j, np.bool_(True), torch.tensor(0.5), np.array([0.5]), Decimal("0.5")],
    ids=repr,
)
def test_a_keep_of_another_type_is_a_type_error(keep):
    with pytest.raises(TypeError, match=rf"keep={re.escape(repr(keep))} is a {type(keep).__name__}; .*\(0, 1\]"):
        Budget(keep)


@pytest.mark.parametrize(
    ("given_", "plain"),
    [
        (np.float64(0.25), 0.25),
        (np.float32(0.25), 0.25),
        (np.float16(0.5), 0.5),
        (np.int64(7), 7),
        (np.uint8(7), 7),
        (Fraction(1, 4), 0.25),
        (1, 1),
        (1.0, 1.0),
    ],
    ids=repr,
)
def test_numbers_of_all_kinds_become_plain(given_, plain):
    keep = check_keep(given_)
    assert keep == plain
    assert type(keep) is type(plain)
    assert type(Budget(given_).keep) is type(plain)


def test_a_float_above_one_suggests_the_int():
    with pytest.raises(ValueError, match="pass the int 576"):
        Budget(576.0)
    with pytest.raises(ValueError, match=r"keep=inf .*\(0, 1\](?!.*the int)"):
        Budget(math.inf)


@st.composite
def splits(draw, weights):
    caps = draw(st.lists(st.integers(0, 60), min_size=1, max_size=9))
    floors = [draw(st.integers(0, min(cap, 4))) for cap in caps]
    total = draw(st.integers(sum(floors), sum(caps)))
    return total, [draw(weights) for _ in caps], caps, floors


whole_weights = st.integers(0, 100)
any_weights = st.one_of(
    st.floats(0, 1e300), st.just(0.0), st.sampled_from([1e-320, 5e-324, 1e308]), st.integers(0, 10**9)
)


@given(splits(whole_weights))
def test_shares_are_those_of_exact_fractions(split):
    total, weights, caps, floors = split
    assert share(total, weights, caps=caps, floors=floors) == filled(weights, total, floors, caps)


def check_alike(counts, weights, caps, floors):
    """Of units of equal weight, no two are more than one apart where the one could take more and the other less."""
    for i, own in enumerate(counts):
        for j, other in enumerate(counts):
            if weights[i] == weights[j] and own < caps[i] and other > floors[j]:
                assert other - own <= 1, f"units {i} and {j} weigh alike and get {own} and {other}"


@given(splits(st.integers(0, 3)))
def test_units_of_equal_weight_are_at_most_one_apart(split):
    total, weights, caps, floors = split
    check_alike(share(total, weights, caps=caps, floors=floors), weights, caps, floors)


@given(splits(whole_weights), st.data())
def test_more_in_all_takes_at_most_one_from_any(split, data):
    total, weights, caps, floors = split
    more = data.draw(st.integers(total, sum(caps)))
    pairs = zip(
        share(total, weights, caps=caps, floors=floors), share(more, weights, caps=caps, floors=floors), strict=True
    )
    assert all(after >= before - 1 for before, after in pairs)


@given(splits(whole_weights), st.randoms())
def test_another_order_of_units_gives_the_same_but_for_ties(split, chance):
    total, weights, caps, floors = split
    order = list(range(len(caps)))
    chance.shuffle(order)
    counts = share(total, weights, caps=caps, floors=floors)
    turned = [[values[i] for i in order] for values in (weights, caps, floors)]
    moved = share(total, turned[0], caps=turned[1], floors=turned[2])
    assert all(abs(own - counts[i]) <= 1 for own, i in zip(moved, order, strict=True))
    remainders = [part % 1 for part in exact_parts(weights if any(weights) else [1] * len(caps), total, floors, caps)]
    rest = [part for part in remainders if part]
    if len(set(rest)) == len(rest):  # no two remainders are equal: there are no ties
        assert moved == [counts[i] for i in order]


def in_rounds(total, weights, caps):
    """Largest remainder over the units that are not full, again and again: what is left over comes on top."""
    counts = [0] * len(caps)
    while left := total - sum(counts):
        units = [i for i in range(len(caps)) if counts[i] < caps[i]]
        parts = {i: Fraction(left * weights[i], sum(weights[j] for j in units)) for i in units}
        spare = left - sum(map(floor, parts.values()))
        first = sorted(units, key=lambda i: (floor(parts[i]) - parts[i], i))[:spare]
        for i in units:
            counts[i] = min(caps[i], counts[i] + floor(parts[i]) + (i in first))
    return counts


def test_shares_in_rounds_are_found_out():
    """The control: units of equal weight, and room in both, end up more than one apart."""
    assert in_rounds(14, [2, 1, 1], [6, 7, 12]) == [6, 5, 3]
    with pytest.raises(AssertionError, match="units 2 and 1 weigh alike and get 3 and 5"):
        check_alike([6, 5, 3], [2, 1, 1], [6, 7, 12], [0] * 3)
    assert share(14, [2, 1, 1], caps=[6, 7, 12]) == [6, 4, 4]


def test_weights_may_be_fractions_of_unlike_denominators():
    assert share(12, [0.5, 1.0, 0.125, 0.375], caps=[12] * 4) == [3, 6, 1, 2]


@given(splits(any_weights))
def test_shares_meet_the_total_the_caps_and_the_floors(split):
    total, weights, caps, floors = split
    counts = share(total, weights, caps=caps, floors=floors)
    assert sum(counts) == total
    assert all(low <= count <= cap for low, count, cap in zip(floors, counts, caps, strict=True))


@given(splits(whole_weights))
def test_more_weight_is_never_less(split):
    total, weights, caps, _ = split
    caps = [max(caps)] * len(caps)
    counts = share(total, weights, caps=caps)
    for i, more in enumerate(weights):
        for j, less in enumerate(weights):
            if more > less or (more == less and i < j):
                assert counts[i] >= counts[j]


@given(st.integers(0, 500), st.lists(st.integers(0, 99), min_size=1, max_size=9), st.integers(1, 1000))
def test_the_unit_of_weight_does_not_matter(total, weights, unit):
    caps = [500] * len(weights)
    assert share(total, weights, caps=caps) == share(total, [w * unit for w in weights], caps=caps)


def test_equal_remainders_go_to_the_earlier_unit():
    assert share(2, [1, 3], caps=[9, 9]) == [1, 1]
    assert share(5, [1, 1], caps=[9, 9]) == [3, 2]
    assert share(3, [1, 1, 1, 1], caps=[9] * 4) == [1, 1, 1, 0]


def test_units_of_weight_zero_are_served_last():
    assert share(5, [0, 1], caps=[9, 9]) == [0, 5]
    assert share(12, [0, 1], caps=[9, 9]) == [3, 9]
    assert share(4, [0, 0], caps=[9, 1]) == [3, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(total=3, weights=[1], caps=[2]), "total=3 must lie between"),
        (dict(total=0, weights=[1], caps=[2], floors=[1]), "total=0 must lie between"),
        (dict(total=1, weights=[1, 1], caps=[2]), "have 2, 1, 2 entries"),
        (dict(total=1, weights=[-1.0], caps=[2]), r"weights\[0\]=-1.0"),
        (dict(total=1, weights=[math.nan], caps=[2]), r"weights\[0\]=nan"),
        (dict(total=1, weights=[1, math.inf], caps=[2, 2]), r"weights\[1\]=inf"),
        (dict(total=1, weights=[1], caps=[2], floors=[3]), r"floors\[0\]=3"),
        (dict(total=1, weights=[1], caps=[2], floors=[-1]), r"floors\[0\]=-1"),
    ],
    ids=str,
)
def test_a_share_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        share(**arguments)


def test_no_units_share_nothing():
    assert share(0, [], caps=[]) == []
