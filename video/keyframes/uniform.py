"""Even in time: the baseline that every other selector must beat."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Frames, KeyframeSelector, Places
from .spread import spread


@dataclass(frozen=True)
class Uniform(KeyframeSelector):
    """The frame shown in the middle of each of k equal parts of the time.

    A frame that is shown longer than such a part is chosen once, and the rest of the time is shared among the others.
    Where two frames are in the middle, the later one is chosen.
    """

    name = "uniform"
    signal = "time"

    def choose(self, frames: Frames, k: int) -> Places:
        """See `KeyframeSelector.choose`."""
        return spread(frames.seconds, len(frames), k)
