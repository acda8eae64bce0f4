"""PySceneDetect's perceptual-hash detector."""

from __future__ import annotations

from dataclasses import dataclass

from scenedetect.detector import SceneDetector
from scenedetect.detectors import HashDetector

from vtc.core.validation import check_int, check_number

from .base import SEGMENTERS
from .scenes import SceneSegmenter


@SEGMENTERS.register("hash")
@dataclass(frozen=True)
class Hash(SceneSegmenter):
    """A clip begins where enough bits of neighbouring frames' perceptual hashes differ. Colors do not count.

    A frame of one color has a hash of noise, so that plain frames that look alike may be cut.

    Attributes:
        threshold: the share of bits from which on a clip begins; the score is that share.
        size: the hash has `size * size` bits.
        lowpass: how many times finer than the hash the frame is looked at; `size * lowpass` is even.
    """

    threshold: float = 0.35
    size: int = 8
    lowpass: int = 2

    name = "hash"
    paper = "PySceneDetect, detect-hash"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("threshold", self.threshold, 0, 1, ends="(]")
        check_int("size", self.size, 2)
        check_int("lowpass", self.lowpass, 1)
        if self.size * self.lowpass % 2:
            raise ValueError(f"size={self.size} times lowpass={self.lowpass} is odd; choose an even size")

    def detector(self) -> SceneDetector:
        """See `SceneSegmenter.detector`."""
        return HashDetector(threshold=float(self.threshold), size=self.size, lowpass=self.lowpass, min_scene_len=0)

    def metric(self, detector: SceneDetector) -> str:
        """See `SceneSegmenter.metric`."""
        return str(detector.get_metrics()[-1])
