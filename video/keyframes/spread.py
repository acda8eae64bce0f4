"""Places at even steps of a mass that lies on the frames: exactly k, each frame at most once."""

from __future__ import annotations

import numpy as np

from vtc.core.allocation import allocate
from vtc.video.clips.frame_arrays import Floats

from .base import Places

UNIT = 1 << 24
"""Parts of the mass that one choice stands for: whole numbers, so that the places are exact."""


def middles(count: int, k: int) -> Places:
    """The middle of each of `k` equal parts of `count` frames; where two are in the middle, the later one."""
    return (2 * np.arange(k) + 1) * count // (2 * k)


def spread(mass: Floats | None, count: int, k: int) -> Places:
    """The frames in the middles of `k` equal parts of their mass, `[k]` ascending and unique.

    No frame can hold more than one part: what is above is shared again among the others (`allocate`), and a frame so
    full is always chosen. This mends the plain quantiles of a mass, which meet a heavy frame more than once.

    Args:
        mass: `[count]` not negative; None: all alike. Frames without mass are chosen after all others.
        count: how many frames there are.
        k: at most `count`.
    """
    if mass is None or not mass.any():
        return middles(count, k)
    ends = np.cumsum(allocate(mass.tolist(), k * UNIT, max_per=UNIT))
    return np.searchsorted(ends, (2 * np.arange(k) + 1) * (UNIT // 2), side="right").astype(np.int64)
