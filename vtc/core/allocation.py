"""Sharing of what any video may hold: weights that are no numbers, and totals that no bounds allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from .budget import fill
from .validation import check_int

Bounds = int | Sequence[int]
"""One count for all units, or one for each."""


def allocate(weights: Sequence[float], total: int, *, min_per: Bounds = 0, max_per: Bounds | None = None) -> list[int]:
    """Share `total` over units in proportion to `weights`, each count within its own bounds.

    The rule of `vtc.core.budget.share`, which this prepares weights and totals for.

    A weight that is NaN says nothing: it counts as the mean of the finite ones. Infinite weights are served before
    all finite ones, alike among themselves. Weights of zero are served last, alike among themselves; where all are
    zero, or NaN, all are alike.

    Args:
        weights: one per unit, at least 0.
        total: what to share, at least 0. It is clamped to what the bounds allow: below the sum of `min_per` each unit
            gets its least, above the sum of `max_per` each gets its most. Where that must not pass in silence, the
            caller checks the sum, as `vtc.video.clips.budgets.clip_budget` does.
        min_per: the least of each unit.
        max_per: the most of each unit; None: no limit.

    Returns:
        One count per unit, which sum to `min(max(total, sum(min_per)), sum(max_per))` exactly.

    Raises:
        TypeError: `total` or a bound is not an int.
        ValueError: `total` or a weight is below 0, a bound is below 0 or above its partner, or the lengths differ.
    """
    count = len(weights)
    total, low = check_int("total", total, 0), _bounds("min_per", min_per, count)
    high = _bounds("max_per", max([total, *low]) if max_per is None else max_per, count)
    for i, (least, most) in enumerate(zip(low, high, strict=True)):
        if least > most:
            raise ValueError(f"min_per[{i}]={least} is above max_per[{i}]={most}; lower the one or raise the other")
    return fill(min(max(total, sum(low)), sum(high)), _ranks(weights), low, high)


def _bounds(name: str, given: Bounds, count: int) -> list[int]:
    """The bounds of all `count` units."""
    listed: list[Any] = list(given) if isinstance(given, Iterable) else [given] * count
    if len(listed) != count:
        raise ValueError(f"{name} has {len(listed)} entries for {count} weights; expected one per unit, or one int")
    return [check_int(f"{name}[{i}]", bound, 0) for i, bound in enumerate(listed)]


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
