"""Minimum tokens of a unit, and exact counts, for all allocators."""

from __future__ import annotations

from collections.abc import Sequence

from vtc.core.budget import share
from vtc.core.validation import check_int


def check_floor(floor: object) -> int:
    """`floor` as a plain int, which a recipe file can hold.

    Raises:
        TypeError: `floor` is no int.
        ValueError: it is negative.
    """
    return check_int("floor", floor, 0, expected="the least number of tokens per unit, an int of at least 0")


def shared(total: int, weights: Sequence[float], candidates: Sequence[int], floor: int = 0) -> list[int]:
    """Share `total` over units in proportion to `weights`, none above its candidates or below `floor`.

    A unit of fewer candidates than `floor` gets all of them. The floor changes nothing where no unit is below it: only
    units that would get less are raised to it, and the others share the rest. Where `total` is too small for the
    floors of all units, the floor gives way, see `lowered`: a small item is no reason to refuse its batch. Where
    nothing has weight, candidates count instead.

    Args:
        total: tokens to share, at most the sum of `candidates`.
        weights: a non-negative finite number per unit.
        candidates: of each unit.
        floor: the least tokens per unit.

    Returns:
        One count per unit, which sum to `total`; equal remainders go to the earlier unit.
    """
    least = lowered(total, candidates, floor)
    weights = weights if any(weights) else candidates
    floors = [min(least, own) for own in candidates]
    free = share(total, weights, caps=candidates)
    # A part that only rounding lifts to its floor is not raised, as that would move the others.
    if all(count >= low for count, low in zip(free, floors, strict=True)):
        return free
    return share(total, weights, caps=candidates, floors=floors)


def lowered(total: int, candidates: Sequence[int], floor: int) -> int:
    """The greatest floor up to `floor` that `total` tokens can give every unit, of so many candidates.

    A unit of fewer candidates than the floor needs no more than those.
    """
    low, high = 0, floor
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(middle, own) for own in candidates) <= total:
            low = middle
        else:
            high = middle - 1
    return low
