"""Clips of equal time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from vtc.core.validation import check_int, check_number

from .base import (
    SEGMENTERS,
    Found,
    Segmentation,
    Segmenter,
)
from .divide import SLACK, edges, equal_parts

PARTS = 4
"""Clips where nothing is said."""


@SEGMENTERS.register("even")
@dataclass(frozen=True)
class EvenSegmenter(Segmenter):
    """Equal time: a stated number of clips, or clips of a stated length.

    What videos are cut into where content counts for nothing (FOCUS, LVCoT). A clip begins at the frame nearest to
    where its part does, with `parts`; at the first frame not before it, with `every`, so that it is known at once.

    Attributes:
        parts: how many clips; a video of fewer frames has one a frame. Four where neither is given.
        every: how long a clip is, seconds; the last may be shorter. Where frames lie further apart, each is a clip. In
            a recipe, where no times are known, it counts units of frames.
    """

    parts: int | None = None
    every: float | None = None

    name = "even"
    paper = "equal time; FOCUS, LVCoT"
    wants = "time"

    def __post_init__(self) -> None:
        if self.parts is not None and self.every is not None:
            raise ValueError(f"parts={self.parts} and every={self.every}: set one of them, and leave the other None")
        if self.parts is None and self.every is None:
            object.__setattr__(self, "parts", PARTS)
        if self.parts is not None:
            check_int("parts", self.parts, 1)
        if self.every is not None:
            check_number("every", self.every, 0, ends="(]")

    @property
    def lag(self) -> int | None:
        """See `Segmenter.lag`."""
        return None if self.every is None else 0

    def begin(self) -> Segmentation:
        """See `Segmenter.begin`."""
        return _EvenRun(self)


class _EvenRun(Segmentation):
    reason = "even"

    def __init__(self, rule: EvenSegmenter) -> None:
        super().__init__(rule.wants)
        self._rule = rule
        self._part = 0

    def _step(self, value: Any) -> Found:
        if self._rule.every is None:
            return []
        part = math.floor((self.seconds[-1] - self.seconds[0] + SLACK) / self._rule.every)
        if part == self._part:
            return []
        self._part = part
        return [(self.frames - 1, 0.0)]

    def _end(self) -> Found:
        parts = min(self._rule.parts or 1, self.frames)
        if parts < 2:
            return []
        return [(start, 0.0) for start in equal_parts(edges(self.seconds), 0, self.frames, parts)[1:]]
