"""The same number of frames from every segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vtc.core.allocation import allocate
from vtc.core.specification import normalized
from vtc.video.clips.clip import Clip
from vtc.video.clips.frame_arrays import Floats

from .base import Frames, KeyframeSelector, Places
from .spread import spread

if TYPE_CHECKING:
    from vtc.video.clips.segmenters import Segmenter


@dataclass(frozen=True)
class Segments(KeyframeSelector):
    """Cuts the video into segments and samples each alike, evenly in time inside.

    Segment-wise sampling after VideoGPT+ (arXiv 2406.09418), whose segments are of equal length, which makes the whole
    an even sample; here they are clips that a segmenter cuts, so that a short shot is seen as often as a long one.
    Where there are more segments than frames are asked for, the longest are sampled once each; a segment that has
    fewer frames than its part gives what it has, and the others share the rest.

    Attributes:
        segmenter: as `vtc.video.clips.segmenters.segmenter` takes it, such as `neighbour` or `even:parts=4`.
    """

    segmenter: str | Segmenter = "neighbour"

    name = "segments"
    paper = "VideoGPT+, 2406.09418"
    signal = "change from frame to frame"

    def __post_init__(self) -> None:
        object.__setattr__(self, "segmenter", normalized(_segmenter(self.segmenter)))

    @property
    def cutter(self) -> Segmenter | None:
        """See `KeyframeSelector.cutter`."""
        rule = _segmenter(self.segmenter)
        return rule if rule.wants == "frame" else None

    def choose(self, frames: Frames, k: int) -> Places:
        """See `KeyframeSelector.choose`."""
        from vtc.video.clips.segmenters import clips_of

        # Cut by place: frames that are shown for no time begin at the same time.
        clips = frames.clips if frames.clips is not None else clips_of(_segmenter(self.segmenter), frames.rows)
        order = sorted(range(len(clips)), key=lambda i: (-len(clips[i]), i))
        counts = dict.fromkeys(range(len(clips)), 0)
        shares = allocate([1.0] * len(clips), k, max_per=[len(clips[i]) for i in order])
        counts.update(zip(order, shares, strict=True))
        picked = [
            clip.start + spread(_part(frames.seconds, clip), len(clip), counts[i])
            for i, clip in enumerate(clips)
            if counts[i]
        ]
        return np.concatenate(picked)


def _part(seconds: Floats | None, clip: Clip) -> Floats | None:
    return None if seconds is None else seconds[clip.start : clip.end]


def _segmenter(spec: str | Segmenter) -> Segmenter:
    # Some segmenters load OpenCV and PyAV; selectors are on numpy alone.
    from vtc.video.clips.segmenters import segmenter

    return segmenter(spec)
