"""Features as directions, and how far two of them lie apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float64]


def direction(feature: Row) -> Row:
    """`feature` `[D]` at length 1; all zeros stay zeros."""
    largest = np.abs(feature).max()
    if largest == 0:
        return feature
    scaled = feature / largest  # so that no square overflows or vanishes
    return np.asarray(scaled / np.linalg.norm(scaled))


def known(feature: Row, before: Row | None) -> Row | None:
    """Return the L2-normalised `feature`; fall back to `before` where it holds NaN or infinity."""
    return direction(feature) if bool(np.isfinite(feature).all()) else before


def distance(one: Row | None, other: Row | None) -> float:
    """`1 - cosine` of two directions, in [0, 2].

    0 between two features of zeros, 1 between zeros and any other; 0 where nothing is known of one of them.
    """
    if one is None or other is None:
        return 0.0
    if not one.any() or not other.any():
        return float(one.any() or other.any())
    # Half the squared chord is 1 - cosine, and exactly 0 between equal rows.
    return float(((one - other) ** 2).sum() / 2)


def stack_known(rows: Sequence[Row | None]) -> NDArray[np.float64] | None:
    """Directions `[T, D]` where the unknown ones, all in front, are as the first known one; None if none is known."""
    first = next((row for row in rows if row is not None), None)
    return None if first is None else np.stack([first if row is None else row for row in rows])
