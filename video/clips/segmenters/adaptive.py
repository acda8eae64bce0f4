"""PySceneDetect's adaptive detector."""

from __future__ import annotations

from dataclasses import dataclass

from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector

from vtc.core.validation import check_int, check_number

from .base import SEGMENTERS
from .scenes import SceneSegmenter


@SEGMENTERS.register("adaptive")
@dataclass(frozen=True)
class Adaptive(SceneSegmenter):
    """A clip begins where the difference of `content` stands out among those around it, as in a moving camera.

    The score is the ratio of a frame's difference to the mean of its neighbours', 255 at most. The library judges a
    frame only with `reach` frames on both sides: the first and the last `reach` frames of a video begin no clip.

    Attributes:
        threshold: the ratio from which on a clip begins.
        reach: frames to either side that it is compared with.
        floor: the difference that a clip needs in any case, above 0 (at 0 the library cuts what stands still) to 255.
    """

    threshold: float = 3.0
    reach: int = 2
    floor: float = 15.0

    name = "adaptive"
    paper = "PySceneDetect, detect-adaptive"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("threshold", self.threshold, 0, 255, ends="(]")
        check_int("reach", self.reach, 1)
        check_number("floor", self.floor, 0, 255, ends="(]")

    @property
    def lag(self) -> int | None:
        """See `Segmenter.lag`."""
        return self.reach

    def detector(self) -> SceneDetector:
        """See `SceneSegmenter.detector`."""
        return AdaptiveDetector(
            adaptive_threshold=float(self.threshold),
            min_scene_len=0,
            window_width=self.reach,
            min_content_val=float(self.floor),
        )

    def metric(self, detector: SceneDetector) -> str:
        """See `SceneSegmenter.metric`."""
        return str(detector.get_metrics()[-1])
