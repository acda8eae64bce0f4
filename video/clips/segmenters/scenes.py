"""PySceneDetect's detectors as segmenters: what is common to them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import FrameTimecode, StatsManager
from scenedetect.detector import SceneDetector

from vtc.core.validation import check_int

from .base import Found, Segmentation, Segmenter


@dataclass(frozen=True)
class SceneSegmenter(Segmenter):
    """A detector of PySceneDetect 0.7 (Castellano, scenedetect.com), fed frame by frame.

    Its own rule for the shortest scene is off: how long clips are is decided in one place, `to_clips`.

    The thresholds are the library's, for consecutive frames of a video at its own rate. In a recipe it is shown the
    small frames that are looked at, 1 or 2 a second: there neighbours differ by far more, so that it cuts at motion too
    unless its threshold is raised, and `neighbour` is the better choice.

    Attributes:
        width: wider frames are shrunk to it first, pixels, as the library's own reader does; noise then counts less.
    """

    width: int = 256

    wants = "frame"

    def __post_init__(self) -> None:
        check_int("width", self.width, 8)

    @property
    def lag(self) -> int | None:
        """See `Segmenter.lag`."""
        return 0

    @abstractmethod
    def detector(self) -> SceneDetector:
        """A new detector of these parameters."""

    @abstractmethod
    def metric(self, detector: SceneDetector) -> str:
        """The name under which `detector` notes how much a frame differs."""

    def begin(self) -> Segmentation:
        """See `Segmenter.begin`."""
        return _SceneRun(self)


class _SceneRun(Segmentation):
    def __init__(self, rule: SceneSegmenter) -> None:
        super().__init__(rule.wants)
        self._rule = rule
        self._detector = rule.detector()

    def _step(self, value: Any) -> Found:
        # Frames are numbered instead of timed: detectors compare neighbours, and numbers come back exactly.
        at = FrameTimecode(self.frames - 1, fps=1.0)
        self._detector.stats_manager = StatsManager()
        return self._found(self._detector.process_frame(at, _small(value, self._rule.width)))

    def _end(self) -> Found:
        return self._found(self._detector.post_process(FrameTimecode(max(self.frames - 1, 0), fps=1.0)))

    def _found(self, cuts: list[FrameTimecode]) -> Found:
        key = self._rule.metric(self._detector)
        stats = self._detector.stats_manager
        return [(cut.frame_num, float(stats.get_metrics(cut, [key])[0])) for cut in cuts]


def _small(frame: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """`frame` in BGR, no wider than `width`."""
    height, own = frame.shape[:2]
    size = (width, max(round(height * width / own), 1))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if own > width else frame
    return np.ascontiguousarray(small[..., ::-1], dtype=np.uint8)
