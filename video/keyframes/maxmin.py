"""Farthest first: each frame as unlike those chosen before it as can be, in what it shows and in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vtc.core.validation import check_number
from vtc.video.clips.frame_arrays import Floats, changes, lowest

from .base import Frames, KeyframeSelector, Places
from .spread import spread


@dataclass(frozen=True)
class MaxMin(KeyframeSelector):
    """Greedy max-min dispersion over features and time.

    The first choice is the most usual frame, the one most like the mean of all; each next one is the frame whose least
    distance to the chosen ones is largest. The distance of two frames is `(1 - cosine) / scale + time * gap`, where
    `scale` is the largest `1 - cosine` from the most usual frame, so that it does not matter how large changes are in a
    video or in its features, and `gap` is the time between the two as a share of the whole. A single frame of its own
    is so among the first few, however long the rest. A video in which nothing changes is sampled as `uniform` does.
    Gonzalez's farthest-first traversal (1985); the rule of DivPrune (arXiv 2503.02175) on frames.

    Attributes:
        time: what the whole length of the video weighs beside the largest distance; at least 0.
    """

    time: float = 0.3

    name = "maxmin"
    paper = "farthest-first traversal, Gonzalez 1985"
    signal = "diversity of the features, and time"

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", check_number("time", self.time, 0, ends="[)"))

    def choose(self, frames: Frames, k: int) -> Places:
        """See `KeyframeSelector.choose`."""
        rows = frames.rows
        if not changes(rows).any():
            return spread(frames.seconds, len(frames), k)
        at, taken = _middles_in_time(frames), np.zeros(len(frames), dtype=bool)
        near = np.full(len(frames), np.inf)
        place = lowest(-(rows @ rows.mean(axis=0)), taken)
        scale = (1 - rows @ rows[place]).max()
        chosen = [place]
        while len(chosen) < k:
            taken[place] = True
            near = np.minimum(near, (1 - rows @ rows[place]) / scale + self.time * np.abs(at - at[place]))
            place = lowest(-near, taken)
            chosen.append(place)
        return np.array(chosen, dtype=np.int64)


def _middles_in_time(frames: Frames) -> Floats:
    """When the middle of each frame is shown, `[T]`, the whole being 1."""
    shown = np.ones(len(frames)) if frames.seconds is None else frames.seconds
    return (np.cumsum(shown) - shown / 2) / shown.sum()
