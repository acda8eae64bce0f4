"""How many tokens go on: what the caller asks for, and exact integer sharing over units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

Keep = float | int


def check_keep(keep: object) -> Keep:
    """`keep` as a plain float or int.

    Args:
        keep: a share in (0, 1] of each item's candidate tokens (float), or at most that many per item (int).

    Raises:
        TypeError: `keep` is no number (a bool is none either).
        ValueError: a share outside (0, 1], or a count below 1.
    """
    if isinstance(keep, bool) or not isinstance(keep, Real):
        raise TypeError(f"keep={keep!r} is a {type(keep).__name__}; expected a float in (0, 1] or an int of at least 1")
    if isinstance(keep, Integral):
        if keep < 1:
            raise ValueError(f"keep={keep} asks for fewer than one token per item; expected an int of at least 1")
        return int(keep)
    share = float(keep)
    if not 0.0 < share <= 1.0:
        hint = f" (for at most {share:.0f} tokens per item pass the int {share:.0f})" if 1 < share < math.inf else ""
        raise ValueError(f"keep={share} is outside (0, 1]; expected a share of the candidate tokens{hint}")
    return share


@dataclass(frozen=True)
class Budget:
    """Keep: a share of an item's candidate tokens, or a ceiling on their number.

    Attributes:
        keep: float in (0, 1]: a share, rounded half up, at least one token per item; int: at most that many per item.
    """

    keep: Keep

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", check_keep(self.keep))

    def count(self, candidates: int) -> int:
        """The exact number of `candidates` that go on. Pure arithmetic: known before any encoder runs."""
        if candidates <= 0:
            return 0
        if isinstance(self.keep, int):
            return min(self.keep, candidates)
        # The tiny slack makes a half that binary floats cannot hold (.15 * 10) round up as it does on paper.
        return min(candidates, max(1, math.floor(self.keep * candidates + 0.5 + 1e-9)))


def share(
    total: int,
    weights: Sequence[float],
    *,
    caps: Sequence[int],
    floors: Sequence[int] | None = None,
) -> list[int]:
    """Share `total` tokens over units in proportion to `weights`: exact, each count within its bounds.

    The one rule of tiles, cells, frames and clips. Water-filling: one level is found so that `level * weight`, cut to
    the bounds of each unit, sums to the total; what lies between the bounds is rounded by largest remainder. Units of
    equal weight and bounds so get counts at most one apart. Equal remainders go to the earlier unit. Units of weight
    zero are served last, alike among themselves. Where the total or one weight rises, a count falls by at most one,
    which is the price of largest remainders.

    Args:
        total: tokens to share; between `sum(floors)` and `sum(caps)`.
        weights: a non-negative finite number per unit.
        caps: the most each unit can take (its candidates).
        floors: the least each unit must get; default 0.

    Returns:
        One count per unit, which sum to `total` exactly.

    Raises:
        ValueError: lengths differ, a weight is negative or not finite, a floor is above its cap, or `total` cannot
            be met.
    """
    low = list(floors) if floors is not None else [0] * len(weights)
    _check_share(total, weights, caps, low)
    return fill(total, [weights, [1.0] * len(weights)], low, caps)


def fill(total: int, ranks: Sequence[Sequence[float]], floors: Sequence[int], caps: Sequence[int]) -> list[int]:
    """Counts that sum to `total` by water-filling, all in whole numbers: the rounding of floats decides nothing.

    Args:
        total: between the sums of `floors` and `caps`, which is the caller's to see to.
        ranks: finite weights from 0. The first are served first; each later one shares what is left over among the
            units that weigh nothing in those before. In the last, all weigh something.
        floors, caps: the least and the most of each unit.
    """
    counts, units, left = [0] * len(floors), list(range(len(floors))), total
    for weights in ranks:
        parts = _parts(weights)
        while mass := sum(parts[i] for i in units):
            under, over = _outside(left, mass, parts, floors, caps, units)
            if not under and not over:
                for i, count in zip(units, _rounded(left, [parts[i] for i in units]), strict=True):
                    counts[i] = count
                return counts
            for i in under | over:
                counts[i] = floors[i] if i in under else caps[i]
                left -= counts[i]
            units = [i for i in units if i not in under and i not in over]
    return counts


def _check_share(total: int, weights: Sequence[float], caps: Sequence[int], floors: Sequence[int]) -> None:
    if not len(weights) == len(caps) == len(floors):
        raise ValueError(
            f"weights, caps, floors have {len(weights)}, {len(caps)}, {len(floors)} entries; expected one per unit"
        )
    for i, weight in enumerate(weights):
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"weights[{i}]={weight} must be finite and at least 0")
        if not 0 <= floors[i] <= caps[i]:
            raise ValueError(f"floors[{i}]={floors[i]} must lie between 0 and caps[{i}]={caps[i]}")
    if not sum(floors) <= total <= sum(caps):
        raise ValueError(f"total={total} must lie between the sum of floors {sum(floors)} and of caps {sum(caps)}")


def _parts(weights: Sequence[float]) -> list[int]:
    """The same proportions in whole numbers."""
    ratios = [float(weight).as_integer_ratio() for weight in weights]
    scale = max((below for _, below in ratios), default=1)
    return [above * (scale // below) for above, below in ratios]


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


def _rounded(total: int, parts: Sequence[int]) -> list[int]:
    """`total` in proportion to `parts`, some of which are above 0, by largest remainder."""
    mass = sum(parts)
    whole = [total * part // mass for part in parts]
    order = sorted(range(len(parts)), key=lambda i: (-(total * parts[i] % mass), i))
    for i in order[: total - sum(whole)]:
        whole[i] += 1
    return whole
