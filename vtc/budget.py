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
    """What is asked for: a share of an item's candidate tokens, or a ceiling on their number.

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
    """Shares `total` tokens over units in proportion to `weights`: exact, by largest remainder.

    A unit never gets more than its cap; what a full unit cannot take is shared again among the others. Equal
    remainders go to the earlier unit. Units of weight zero are served last.

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
    counts = list(low)
    open_units = [i for i in range(len(weights)) if counts[i] < caps[i]]
    while (left := total - sum(counts)) > 0:
        counts = _pour(left, weights, caps, counts, open_units)
        open_units = [i for i in open_units if counts[i] < caps[i]]
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


def _pour(
    left: int, weights: Sequence[float], caps: Sequence[int], counts: Sequence[int], units: Sequence[int]
) -> list[int]:
    """One round of largest remainder over `units`, cut at their caps; hands out at least one token."""
    # In whole numbers: the rounding of floats would decide between equal remainders.
    ratios = {i: float(weights[i]).as_integer_ratio() for i in units if weights[i] > 0} or dict.fromkeys(units, (1, 1))
    scale = max(below for _, below in ratios.values())
    parts = {i: above * (scale // below) for i, (above, below) in ratios.items()}
    mass = sum(parts.values())
    whole = {i: left * part // mass for i, part in parts.items()}
    spare = left - sum(whole.values())
    for i in sorted(parts, key=lambda i: (-(left * parts[i] % mass), i))[:spare]:
        whole[i] += 1
    out = list(counts)
    for i in parts:
        out[i] = min(caps[i], counts[i] + whole[i])
    return out
