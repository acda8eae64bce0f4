"""`allocate`: exact, bounded, monotone, against slow water-filling in fractions; rules that fail the same checks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.filling import exact_parts
from vtc.core.allocation import allocate

NAN, INF = math.nan, math.inf
finite = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 5e-324, 1e308]), st.floats(0, 10), st.integers(0, 3).map(float))


@st.composite
def asked(draw, weight=finite):
    """Weights, a total of any size, and bounds."""
    count = draw(st.integers(1, 9))
    weights = draw(st.lists(weight, min_size=count, max_size=count))
    low = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    high = [least + draw(st.integers(0, 12)) for least in low]
    return weights, draw(st.integers(0, 120)), low, high


def check_allocation(counts, weights, total, low, high):
    """The contract: exact sum, bounds, and never less for the heavier of two units with the same bounds."""
    assert all(type(count) is int for count in counts)
    assert sum(counts) == min(max(total, sum(low)), sum(high)), "inexact sum"
    assert all(a <= c <= b for a, c, b in zip(low, counts, high, strict=True)), "outside the bounds"
    for i, own in enumerate(counts):
        for j, other in enumerate(counts):
            if weights[i] > weights[j] and (low[i], high[i]) == (low[j], high[j]):
                assert own >= other, f"unit {i} is heavier than {j}"


def check_rounding(counts, weights, low, high):
    """Each count is within one of its exact part."""
    for i, (own, part) in enumerate(zip(counts, exact_parts(weights, sum(counts), low, high), strict=True)):
        assert abs(own - part) < 1, f"unit {i} got {own} for {float(part)}"


@given(case=asked())
def test_contract(case):
    weights, total, low, high = case
    check_allocation(allocate(weights, total, min_per=low, max_per=high), weights, total, low, high)


@given(case=asked(st.sampled_from([0.0, 1.0, 2.5, NAN, INF])))
def test_contract_with_what_is_no_number(case):
    weights, total, low, high = case
    known = [w for w in weights if math.isfinite(w)]
    seen = [sum(known) / len(known) if math.isnan(w) and known else 0.0 if math.isnan(w) else w for w in weights]
    check_allocation(allocate(weights, total, min_per=low, max_per=high), seen, total, low, high)


@given(case=asked(st.integers(0, 9).map(float)))
def test_within_one_of_water_filling(case):
    weights, total, low, high = case
    check_rounding(allocate(weights, total, min_per=low, max_per=high), weights, low, high)


@given(case=asked(), data=st.data())
def test_more_weight_takes_at_most_one_away(case, data):
    weights, total, low, high = case
    i = data.draw(st.integers(0, len(weights) - 1))
    before = allocate(weights, total, min_per=low, max_per=high)
    weights[i] = weights[i] * 2 + 1
    if math.isfinite(weights[i]):
        assert allocate(weights, total, min_per=low, max_per=high)[i] >= before[i] - 1


@given(case=asked(), power=st.integers(-20, 20))
def test_scale_of_weights_does_not_matter(case, power):
    weights, total, low, high = case
    scaled = [w * 2.0**power for w in weights]
    if all(s / 2.0**power == w for s, w in zip(scaled, weights, strict=True)):
        assert allocate(scaled, total, min_per=low, max_per=high) == allocate(weights, total, min_per=low, max_per=high)


@pytest.mark.parametrize(
    ("weights", "total", "low", "high", "counts"),
    [
        ([5, 1, 1], 10, 0, None, [7, 2, 1]),
        ([1, 1, 1], 2, 0, None, [1, 1, 0]),
        ([1, 0], 6, [0, 3], [2, 5], [2, 4]),
        ([0, 0], 5, 0, [1, 9], [1, 4]),
        ([NAN, NAN, NAN], 4, 0, None, [2, 1, 1]),
        ([NAN, 1, 3], 6, 0, None, [2, 1, 3]),
        ([INF, 1, 3], 10, 0, [4, 9, 9], [4, 2, 4]),
        ([INF, 0, INF], 5, 0, None, [3, 0, 2]),
        ([9, 1], 10, 3, None, [7, 3]),
        ([1, 2], 1, 1, 4, [1, 1]),
        ([1, 2], 99, 1, 4, [4, 4]),
        ([], 3, 0, None, []),
        ([1e308, 1e308, NAN], 3, 0, None, [1, 1, 1]),
    ],
)
def test_known_counts(weights, total, low, high, counts):
    assert allocate(weights, total, min_per=low, max_per=high) == counts


def test_without_bounds_a_unit_may_get_nothing_or_all():
    assert allocate([0, 1, 0], 5) == [0, 5, 0]


def test_numpy_is_welcome():
    counts = allocate(np.array([1, 2, 3.0]), np.int64(12), min_per=np.array([1, 1, 1]), max_per=np.int32(5))
    assert counts == [2, 5, 5]
    assert all(type(count) is int for count in counts)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(total=2.0), TypeError, r"total=2.0 is a float; expected an int"),
        (dict(total=True), TypeError, r"total=True is a bool"),
        (dict(total=-1), ValueError, r"total=-1 .* at least 0"),
        (dict(weights=[1, -2]), ValueError, r"weights\[1\]=-2.0 must be at least 0"),
        (dict(weights=[1, -INF]), ValueError, r"weights\[1\]=-inf"),
        (dict(min_per=[1]), ValueError, r"min_per has 1 entries for 2 weights"),
        (dict(min_per=[1, 2], max_per=1), ValueError, r"min_per\[1\]=2 is above max_per\[1\]=1"),
        (dict(min_per=[1, 0.5]), TypeError, r"min_per\[1\]=0.5 is a float"),
        (dict(max_per=-1), ValueError, r"max_per\[0\]=-1 .* at least 0"),
    ],
)
def test_refused(arguments, error, message):
    given_ = {"weights": [1, 2], "total": 3, **arguments}
    with pytest.raises(error, match=message):
        allocate(given_.pop("weights"), given_.pop("total"), **given_)


def v_cast(weights, total, low, high):
    """Floors, then all leftovers to the heaviest unit that is not full: the released rule of V-CAST."""
    rest = total - sum(low)
    counts = [min(b, a + int(w / sum(weights) * rest)) for w, a, b in zip(weights, low, high, strict=True)]
    while sum(counts) < total:
        counts[max((i for i in range(len(counts)) if counts[i] < high[i]), key=lambda i: weights[i])] += 1
    return counts


def dytok(weights, total, low, high, rounds=1000):
    """Floors, one to each of the largest remainders, cut, and the excess in turns: never ends above the cap."""
    parts = [w / sum(weights) * total for w in weights]
    counts = [int(part) for part in parts]
    for i in sorted(range(len(parts)), key=lambda i: counts[i] - parts[i])[: total - sum(counts)]:
        counts[i] += 1
    excess = sum(max(0, c - b) for c, b in zip(counts, high, strict=True))
    counts = [min(c, b) for c, b in zip(counts, high, strict=True)]
    order = sorted(range(len(counts)), key=lambda i: -weights[i])
    while excess:
        for i in order:
            if excess and counts[i] < high[i]:
                counts[i], excess = counts[i] + 1, excess - 1
        rounds -= 1
        if not rounds:
            raise TimeoutError("the excess never ends")
    return counts


def vidcom2(weights, total, low, high):
    """Each part rounded for itself."""
    return [max(1, round(w / sum(weights) * total)) for w in weights]


WEIGHTS = [1 + 0.01 * math.sin(i) for i in range(32)]


def test_leftovers_on_one_unit_are_found_out():
    """Negative control: V-CAST's 32 frames and 512 tokens."""
    low, high = [1] * 32, [49] * 32
    counts = v_cast(WEIGHTS, 512, low, high)
    check_allocation(counts, WEIGHTS, 512, low, high)
    with pytest.raises(AssertionError, match=r"got \d+ for 16"):
        check_rounding(counts, WEIGHTS, low, high)
    check_rounding(allocate(WEIGHTS, 512, min_per=1, max_per=49), WEIGHTS, low, high)


def test_a_total_above_all_caps_ends():
    """Negative control: DyToK's loop, and its frames without a token."""
    with pytest.raises(TimeoutError):
        dytok(WEIGHTS, 32 * 200, [0] * 32, [196] * 32)
    assert allocate(WEIGHTS, 32 * 200, max_per=196) == [196] * 32
    uneven = [1.0] * 31 + [200.0]
    with pytest.raises(AssertionError, match="outside the bounds"):
        check_allocation(dytok(uneven, 64, [1] * 32, [196] * 32), uneven, 64, [1] * 32, [196] * 32)
    assert min(allocate(uneven, 64, min_per=1, max_per=196)) == 1


def test_parts_rounded_one_by_one_are_found_out():
    """Negative control: VidCom2's sum, and HoliTom's round up."""
    low, high = [0] * 7, [99] * 7
    for wrong in (vidcom2([1.0] * 7, 25, low, high), [math.ceil(25 / 7)] * 7):
        with pytest.raises(AssertionError, match="inexact sum"):
            check_allocation(wrong, [1.0] * 7, 25, low, high)


def test_the_heavier_with_less_is_found_out():
    """Negative control: the check of order fails on counts in the wrong order."""
    with pytest.raises(AssertionError, match="unit 1 is heavier than 0"):
        check_allocation([3, 1], [1, 2], 4, [0, 0], [9, 9])
