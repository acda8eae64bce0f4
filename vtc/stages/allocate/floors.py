"""What allocators share: the least that a unit gets, and exact counts."""

from __future__ import annotations

from collections.abc import Sequence

from ...budget import share


def check_floor(floor: object) -> None:
    """Refuses what is no count.

    Raises:
        TypeError: `floor` is no int.
        ValueError: it is negative.
    """
    if isinstance(floor, bool) or not isinstance(floor, int):
        raise TypeError(f"floor={floor!r} is a {type(floor).__name__}; expected an int of at least 0")
    if floor < 0:
        raise ValueError(
            f"floor={floor} is negative; expected the least number of tokens per unit, an int of at least 0"
        )


def shared(total: int, weights: Sequence[float], candidates: Sequence[int], floor: int = 0) -> list[int]:
    """Shares `total` over units in proportion to `weights`, none above its candidates or below `floor`.

    A unit of fewer candidates than `floor` gets all of them. The floor changes nothing where no unit is below it: only
    units that would get less are raised to it, and the others share the rest. Where nothing has weight, candidates
    count instead.

    Args:
        total: tokens to share, at most the sum of `candidates`.
        weights: a non-negative finite number per unit.
        candidates: of each unit.
        floor: the least tokens per unit.

    Returns:
        One count per unit, which sum to `total`; equal remainders go to the earlier unit.

    Raises:
        ValueError: `total` cannot give every unit its floor.
    """
    floors = [min(floor, own) for own in candidates]
    if sum(floors) > total:
        raise ValueError(
            f"floor={floor} asks for {sum(floors)} tokens over {len(floors)} units, and keep leaves total={total}; "
            "lower the floor or raise keep"
        )
    weights = weights if any(weights) else candidates
    raised: set[int] = set()
    while True:
        counts = share(
            total,
            weights,
            caps=[floors[i] if i in raised else own for i, own in enumerate(candidates)],
            floors=[least if i in raised else 0 for i, least in enumerate(floors)],
        )
        below = {i for i, count in enumerate(counts) if count < floors[i]}
        if not below:
            return counts
        raised |= below
