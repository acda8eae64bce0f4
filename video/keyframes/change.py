"""Equal change between the chosen frames: many where much happens, few where nothing does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vtc.core.validation import check_number
from vtc.video.clips.frame_arrays import changes

from .base import (
    Frames,
    KeyframeSelector,
    Places,
)
from .spread import spread


@dataclass(frozen=True)
class Change(KeyframeSelector):
    """The frames in the middles of k equal parts of the accumulated change, on the cosine distance of neighbours.

    A frame holds the change to the frame before it, so that what is new is chosen, not what it replaced. No frame
    is chosen twice (`spread.spread`). A video in which nothing changes is sampled as `uniform` does.

    Attributes:
        steady: the share of choices, 0 to 1, that follows time rather than change; it keeps long still stretches from
            going unseen.
    """

    steady: float = 0.25

    name = "change"
    signal = "change between neighbouring frames"

    def __post_init__(self) -> None:
        object.__setattr__(self, "steady", check_number("steady", self.steady, 0, 1))

    def choose(self, frames: Frames, k: int) -> Places:
        """See `KeyframeSelector.choose`."""
        time = np.ones(len(frames)) if frames.seconds is None else frames.seconds
        change = changes(frames.rows)
        if not change.any():
            return spread(frames.seconds, len(frames), k)
        mass = self.steady * time / time.sum() + (1 - self.steady) * change / change.sum()
        return spread(mass, len(frames), k)
