"""A clip: a stretch of a video between two cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Clip:
    """A stretch of a series of frames, half-open.

    Attributes:
        start, end: the first frame of it, and the first that is no longer in it.
        reason: why it begins where it does: `start`, `cut`, `length` (no clip may be longer), `even`.
        score: how much the two sides of its beginning differ, by the segmenter's own measure; 0 at the start.
    """

    start: int
    end: int
    reason: str = "start"
    score: float = 0.0

    def __len__(self) -> int:
        return self.end - self.start


def check_cover(clips: Sequence[Clip], frames: int) -> None:
    """Raise ValueError unless `clips` cover the frames 0 to `frames`, in order, with none empty and no gap."""
    at = 0
    for clip in clips:
        if clip.start != at or clip.end <= clip.start:
            raise ValueError(f"clips={list(clips)} do not cover {frames} frames in order; {clip} should begin at {at}")
        at = clip.end
    if at != frames:
        raise ValueError(f"clips={list(clips)} end at frame {at}, but there are {frames}")
