"""Base of segmenters: frames are pushed one by one, and cuts between clips are returned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vtc.core.registry import Registry

from .checks import (
    Wants,
    as_feature,
    as_frame,
    check_seconds,
)

Found = Sequence[tuple[int, float]]
"""Frames at which clips begin, ascending, each with its score."""


@dataclass(frozen=True)
class SceneCut:
    """A clip begins at frame `index`, which is shown at `seconds`.

    Attributes:
        score: how much the two sides differ, by the segmenter's own measure.
        reason: `cut`, or `even` where it comes of time alone.
    """

    index: int
    seconds: float
    score: float
    reason: str = "cut"


class Segmentation(ABC):
    """One run of a segmenter over one video; all that is remembered from frame to frame is here.

    Cuts come in the order of their frames, each once; the first frame begins a clip anyway and is never among them.
    """

    reason: ClassVar[str] = "cut"

    def __init__(self, wants: Wants) -> None:
        self.seconds: list[float] = []
        self._wants = wants
        self._shape: tuple[int, ...] | None = None
        self._last = 0
        self._flushed = False

    @property
    def frames(self) -> int:
        """How many frames were pushed."""
        return len(self.seconds)

    def push(self, seconds: float, value: Any) -> list[SceneCut]:
        """Push the next frame.

        Args:
            seconds: when it is shown, later than the one before.
            value: what the segmenter wants: uint8 RGB `[H, W, 3]`, a feature `[D]`, or anything for `time`.

        Returns:
            The cuts that are certain now and were not before.

        Raises:
            TypeError, ValueError: a time that is not later, a value of another kind or shape, or a run that has ended.
        """
        if self._flushed:
            raise ValueError(f"push after flush, at seconds={seconds}; begin another run for another video")
        at = check_seconds(seconds, self.seconds[-1] if self.seconds else None, self.frames)
        value = self._checked(value)
        self.seconds.append(at)
        return self._cuts(self._step(value))

    def flush(self) -> list[SceneCut]:
        """End the run. Returns the cuts that were still uncertain.

        Raises:
            ValueError: it has ended already.
        """
        if self._flushed:
            raise ValueError("flush after flush; begin another run for another video")
        self._flushed = True
        return self._cuts(self._end())

    @abstractmethod
    def _step(self, value: Any) -> Found:
        """Return the cuts that the frame just pushed makes certain."""

    def _end(self) -> Found:
        """Return the cuts that are certain once there are no more frames."""
        return []

    def _checked(self, value: Any) -> Any:
        if self._wants == "time":
            return None
        checked = (as_frame if self._wants == "frame" else as_feature)(value, self._shape)
        self._shape = checked.shape
        return checked

    def _cuts(self, found: Found) -> list[SceneCut]:
        for index, _ in found:
            assert self._last < index < self.frames, f"cut {index} after {self._last} of {self.frames} frames"
            self._last = index
        return [SceneCut(index, self.seconds[index], float(score), self.reason) for index, score in found]


class Segmenter(ABC):
    """A rule that cuts a video into clips. Fields of its dataclass are its parameters; runs share nothing."""

    name: ClassVar[str]
    """What recipes and the command line call it."""
    paper: ClassVar[str]
    """Where the rule comes from."""
    wants: ClassVar[Wants]
    """What `push` is given: `frame`, uint8 RGB `[H, W, 3]`; `feature`, floats `[D]`; or `time`, whatever there is."""

    @property
    @abstractmethod
    def lag(self) -> int | None:
        """How many frames after a clip's first one its cut is known at the latest; None: at the end of the video."""

    @abstractmethod
    def begin(self) -> Segmentation:
        """A run over one video."""


SEGMENTERS: Registry[type[Segmenter]] = Registry("segmenter")
"""All segmenters by name."""
