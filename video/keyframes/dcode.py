"""An even share first, then the frames least similar to what is already chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vtc.core.validation import check_number
from vtc.video.clips.frame_arrays import Floats, lowest

from .base import (
    Frames,
    KeyframeSelector,
    Places,
)


@dataclass(frozen=True)
class DCoDe(KeyframeSelector):
    """D-CoDe's choice of frames (EMNLP 2025): a share of them evenly spaced, the others greedily by least similarity.

    The even share holds `int(k * even)` frames from the first to the last, at least one. Then the frame whose cosine
    with the chosen ones is least is added, until there are k. Parity with the released code holds where that is right;
    asked for more frames than there are, it repeats the first one, and here all are taken once.

    Attributes:
        even: the share that is evenly spaced, 0 to 1.
        similarity: to the chosen frames, `mean` as the released code computes it, or `max`, with which no frame like
            any chosen one is taken before an unlike one.
    """

    even: float = 0.85
    similarity: Literal["mean", "max"] = "mean"

    name = "dcode"
    paper = "D-CoDe, EMNLP 2025"
    signal = "time, then diversity of the features"

    def __post_init__(self) -> None:
        object.__setattr__(self, "even", check_number("even", self.even, 0, 1))
        if self.similarity not in ("mean", "max"):
            raise ValueError(f"similarity={self.similarity!r} is unknown; expected 'mean' or 'max'")

    def choose(self, frames: Frames, k: int) -> Places:
        """See `KeyframeSelector.choose`."""
        rows, first = frames.rows, max(1, int(k * self.even))
        chosen = [i * (len(rows) - 1) // max(1, first - 1) for i in range(first)]
        taken = np.zeros(len(rows), dtype=bool)
        taken[chosen] = True
        near = self._pooled(rows @ rows[chosen].T)
        while len(chosen) < k:
            place = lowest(near / len(chosen) if self.similarity == "mean" else near, taken)
            near = self._pooled(np.stack([near, rows @ rows[place]], axis=1))
            taken[place] = True
            chosen.append(place)
        return np.array(chosen, dtype=np.int64)

    def _pooled(self, cosines: Floats) -> Floats:
        """The sum or the largest of each row of cosines."""
        return cosines.sum(axis=1) if self.similarity == "mean" else cosines.max(axis=1)
