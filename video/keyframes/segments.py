"""The same number of frames from every segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..allocate import allocate
from ..segment import SEGMENTERS, segment
from .base import Frames, KeyframeSelector, Places
from .spread import spread


@dataclass(frozen=True)
class Segments(KeyframeSelector):
    """Cuts the video into segments and samples each alike, evenly in time inside.

    Segment-wise sampling after VideoGPT+ (arXiv 2406.09418), whose segments are of equal length, which makes the whole
    an even sample; here they are clips that a segmenter cuts, so that a short shot is seen as often as a long one.
    Where there are more segments than frames are asked for, the longest are sampled once each; a segment that has
    fewer frames than its part gives what it has, and the others share the rest.

    Attributes:
        segmenter: a name in `SEGMENTERS`, of one that takes features or times.
    """

    segmenter: str = "neighbour"

    name = "segments"
    paper = "VideoGPT+, 2406.09418"
    signal = "change from frame to frame"

    def __post_init__(self) -> None:
        if SEGMENTERS.get(self.segmenter)().wants == "frame":
            raise ValueError(
                f"segmenter={self.segmenter!r} looks at consecutive frames of a film; use one such as 'neighbour'"
            )

    def choose(self, frames: Frames, k: int) -> Places:
        """See `KeyframeSelector.choose`."""
        time = np.ones(len(frames)) if frames.seconds is None else frames.seconds
        starts = np.concatenate([[0.0], np.cumsum(time)[:-1]])
        clips = segment(frames.rows, starts, SEGMENTERS.get(self.segmenter)())
        order = sorted(range(len(clips)), key=lambda i: (-len(clips[i]), i))
        counts = dict.fromkeys(range(len(clips)), 0)
        shares = allocate([1.0] * len(clips), k, max_per=[len(clips[i]) for i in order])
        counts.update(zip(order, shares, strict=True))
        picked = [
            clip.start + spread(time[clip.start : clip.end], len(clip), counts[i])
            for i, clip in enumerate(clips)
            if counts[i]
        ]
        return np.concatenate(picked)
