"""Exact integer sharing by water-filling: counts in proportion to weights, cut at floors and ceilings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

from vtc.budget import share

Bounds = int | Sequence[int]
"""One count for all units, or one for each."""


def allocate(weights: Sequence[float], total: int, *, min_per: Bounds = 0, max_per: Bounds | None = None) -> list[int]:
    """Shares `total` over units in proportion to `weights`, each count within its own bounds.

    Water-filling: one level is found so that `level * weight`, cut to the bounds of each unit, sums to the total; what
    lies between the bounds is rounded by largest remainder (`vtc.budget.share`). All of it runs in whole numbers, so
    that no rounding of floats decides. Of units with the same bounds, a heavier one never gets less; where one weight
    rises, its count falls by at most one, which is the price of largest remainders. Ties go to the lower index.

    A weight that is NaN says nothing: it counts as the mean of the finite ones. Infinite weights are served before
    all finite ones, alike among themselves. Weights of zero are served last, alike among themselves; where all are
    zero, or NaN, all are alike.

    Args:
        weights: one per unit, at least 0.
        total: what to share, at least 0. It is clamped to what the bounds allow: below the sum of `min_per` each unit
            gets its least, above the sum of `max_per` each gets its most. Where that must not pass in silence, the
            caller checks the sum, as `vtc.video.budgets.clip_budget` does.
        min_per: the least of each unit.
        max_per: the most of each unit; None: no limit.

    Returns:
        One count per unit, which sum to `min(max(total, sum(min_per)), sum(max_per))` exactly.

    Raises:
        TypeError: `total` or a bound is not an int.
        ValueError: `total` or a weight is below 0, a bound is below 0 or above its partner, or the lengths differ.
    """
    count = len(weights)
    total, low = whole("total", total), _bounds("min_per", min_per, count)
    high = _bounds("max_per", max([total, *low]) if max_per is None else max_per, count)
    for i, (least, most) in enumerate(zip(low, high, strict=True)):
        if least > most:
            raise ValueError(f"min_per[{i}]={least} is above max_per[{i}]={most}; lower the one or raise the other")
    return _fill(min(max(total, sum(low)), sum(high)), _ranks(weights), low, high)


def whole(name: str, value: object) -> int:
    """`value` as a plain int.

    Raises:
        TypeError: it is not an int (a bool is none either).
        ValueError: it is below 0.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected an int of at least 0")
    if value < 0:
        raise ValueError(f"{name}={value} must be at least 0")
    return int(value)


def _bounds(name: str, given: Bounds, count: int) -> list[int]:
    """The bounds of all `count` units."""
    listed: list[Any] = list(given) if isinstance(given, Iterable) else [given] * count
    if len(listed) != count:
        raise ValueError(f"{name} has {len(listed)} entries for {count} weights; expected one per unit, or one int")
    return [whole(f"{name}[{i}]", bound) for i, bound in enumerate(listed)]


def _ranks(weights: Sequence[float]) -> list[list[float]]:
    """The weights in the order in which they count: infinite ones alone, finite ones, and one for all."""
    given = [float(weight) for weight in weights]
    for i, weight in enumerate(given):
        if weight < 0:
            raise ValueError(f"weights[{i}]={weight} must be at least 0")
    finite = [weight for weight in given if math.isfinite(weight)]
    # Each part is divided before the sum, which would overflow near the largest float.
    mean = math.fsum(weight / len(finite) for weight in finite) if finite else 0.0
    plain = [mean if math.isnan(weight) else 0.0 if math.isinf(weight) else weight for weight in given]
    return [[float(math.isinf(weight)) for weight in given], plain, [1.0] * len(given)]


def _parts(weights: Sequence[float]) -> list[int]:
    """The same proportions in whole numbers."""
    ratios = [weight.as_integer_ratio() for weight in weights]
    scale = max((below for _, below in ratios), default=1)
    return [above * (scale // below) for above, below in ratios]


def _fill(total: int, ranks: Sequence[Sequence[float]], low: Sequence[int], high: Sequence[int]) -> list[int]:
    """Counts that sum to `total`, which lies between the sums of `low` and `high`."""
    counts, units, left = [0] * len(low), list(range(len(low))), total
    for weights in ranks:
        parts = _parts(weights)
        while mass := sum(parts[i] for i in units):
            under, over = _outside(left, mass, parts, low, high, units)
            if not under and not over:
                shared = share(left, [weights[i] for i in units], caps=[high[i] for i in units])
                for i, count in zip(units, shared, strict=True):
                    counts[i] = count
                return counts
            for i in under | over:
                counts[i] = low[i] if i in under else high[i]
                left -= counts[i]
            units = [i for i in units if i not in under and i not in over]
    return counts


def _outside(
    left: int, mass: int, parts: Sequence[int], low: Sequence[int], high: Sequence[int], units: Sequence[int]
) -> tuple[set[int], set[int]]:
    """The units whose proportional part of `left` lies under or over their bounds, as far as that is settled.

    Where the parts, once cut to the bounds, sum to too much, the level must fall, so that only those under are
    settled; where they sum to too little, only those over; where the sum is right, both.
    """
    under = {i for i in units if left * parts[i] < low[i] * mass}
    over = {i for i in units if left * parts[i] > high[i] * mass}
    excess = sum(low[i] * mass - left * parts[i] for i in under) + sum(high[i] * mass - left * parts[i] for i in over)
    if excess > 0:
        return under, set()
    return (set(), over) if excess < 0 else (under, over)
