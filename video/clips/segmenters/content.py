"""PySceneDetect's content detector."""

from __future__ import annotations

from dataclasses import dataclass

from scenedetect.detector import SceneDetector
from scenedetect.detectors import ContentDetector

from vtc.core.validation import check_number

from .base import SEGMENTERS
from .scenes import SceneSegmenter


@SEGMENTERS.register("content")
@dataclass(frozen=True)
class Content(SceneSegmenter):
    """A clip begins where hue, saturation and brightness of neighbouring frames differ by enough, averaged.

    The score is that difference, 0 to 255.

    Attributes:
        threshold: the difference from which on a clip begins.
    """

    threshold: float = 27.0

    name = "content"
    paper = "PySceneDetect, detect-content"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("threshold", self.threshold, 0, 255, ends="(]")

    def detector(self) -> SceneDetector:
        """See `SceneSegmenter.detector`."""
        return ContentDetector(threshold=float(self.threshold), min_scene_len=0)

    def metric(self, detector: SceneDetector) -> str:
        """See `SceneSegmenter.metric`."""
        return str(ContentDetector.FRAME_SCORE_KEY)
