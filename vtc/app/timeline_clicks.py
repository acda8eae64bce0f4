"""Where in a video a click on its timeline leads."""

from __future__ import annotations

from dataclasses import dataclass

from vtc.video.qa.token_usage import TokenUsage
from vtc.viz.drawing import MARGIN, WIDTH
from vtc.viz.timeline import (
    BEHIND,
    GAP,
    STRIP,
    UNDER,
    thumbnails,
)
from vtc.viz.timeline_tracks import AXIS, LEFT

HEADER, LANES, CLIPS = 44, AXIS + 34, 36
"""Pixels of a timeline's title, of the part along the seconds, and of the lane of clips at the top of that."""


@dataclass(frozen=True)
class ClickableTrack:
    """Click regions of a timeline: plain numbers, so that a session can hold it.

    Attributes:
        starts: when each unit begins, in seconds, ascending.
        end: when the last one ends.
        clips: when each clip begins.
        columns: thumbnails in a row.
        wide, high: pixels from one thumbnail to the next.
    """

    starts: tuple[float, ...]
    end: float
    clips: tuple[float, ...]
    columns: int
    wide: int
    high: int

    @classmethod
    def of(cls, found: TokenUsage, ratio: float) -> ClickableTrack:
        """The track of the timeline that `vtc.viz.timeline.timeline` draws.

        Args:
            found: what the timeline shows.
            ratio: height of a frame over its width.
        """
        starts = tuple(unit.start for unit in found.units)
        behind = BEHIND * (found.temporal_patch_size > 1)
        columns, (width, height) = thumbnails(len(starts), ratio, behind)
        clips = tuple(starts[clip.start] for clip in found.clips)
        return cls(
            starts, found.units[-1].end, clips, columns, width + behind + GAP, STRIP + height + behind + UNDER + GAP
        )

    def second(self, x: float, y: float) -> float | None:
        """The second that the point (x, y) of the timeline, in its pixels, stands for; None beside lanes and frames.

        Over the lanes it is the time at that place, on the lane of clips the beginning of the clip; over a thumbnail
        it is when its unit begins.
        """
        if HEADER <= y < HEADER + LANES:
            return self._along(x, on_clips=y < HEADER + CLIPS)
        column, row = int((x - MARGIN) // self.wide), int((y - HEADER - LANES) // self.high)
        unit = row * self.columns + column
        inside = 0 <= column < self.columns and row >= 0 and unit < len(self.starts)
        return self.starts[unit] if inside else None

    def _along(self, x: float, on_clips: bool) -> float | None:
        share = (x - LEFT) / (WIDTH - 2 * MARGIN - LEFT)
        if not 0 <= share <= 1:
            return None
        at = self.starts[0] + share * (self.end - self.starts[0])
        return max((clip for clip in self.clips if clip <= at), default=at) if on_clips else at
