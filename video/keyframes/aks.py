"""Judge and split: where relevance stands out the best frames, elsewhere an even part for each piece of the video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vtc.core.allocation import allocate
from vtc.core.validation import check_int, check_number
from vtc.video.clips.frame_arrays import Floats

from .base import (
    Frames,
    KeyframeSelector,
    Places,
)
from .spread import spread

TILT = 1e-6
"""How much the best score of a leaf counts beside its share: it decides between equal remainders only."""


@dataclass(frozen=True)
class AKS(KeyframeSelector):
    """Adaptive keyframe sampling (AKS, CVPR 2025, arXiv 2502.21271), with counts that are exact.

    Scores are stretched to 0 to 1. A stretch of frames whose k best scores lie more than `threshold` above its mean is
    a leaf; any other is halved, at most `depth` times. A leaf of depth d is worth a share `2 ** -d` of the choices, and
    gives its best frames, the earlier of equal ones.

    The released code cuts each share down to an integer, so that k = 16 gives no frame at all and k = 48 gives 32; here
    k is shared over the leaves by `allocate`, up to their lengths, and of equal remainders the leaf with the best frame
    comes first. Nor is a stretch halved so often that not every leaf could give a frame. Where that code is right, so
    is parity. Its second condition, a standard deviation above -100, always holds and is left out. Constant scores,
    which it turns into NaN and no frame, fall back to
    `uniform`, as do scores that are all NaN.

    Attributes:
        threshold: by how much the best scores must stand out, 0 to 1.
        depth: the most halvings, at least 0.
    """

    threshold: float = 0.8
    depth: int = 5

    name = "aks"
    paper = "AKS, 2502.21271"
    signal = "relevance to the question"
    asks = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", check_number("threshold", self.threshold, 0, 1))
        object.__setattr__(self, "depth", check_int("depth", self.depth, 0))

    def choose(self, frames: Frames, k: int) -> Places:
        """See `KeyframeSelector.choose`."""
        scores = frames.scores
        if scores is None:
            return spread(frames.seconds, len(frames), k)
        depth = min(self.depth, k.bit_length() - 1)
        leaves = list(self._leaves(scores, 0, len(scores), k, depth))
        # The tilt is far below the share of any frame, so that it moves none but the last of a remainder.
        weights = [2.0**left * (1 + TILT * float(scores[a:b].max())) for a, b, left in leaves]
        counts = allocate(weights, k, max_per=[b - a for a, b, _ in leaves])
        best = [a + np.argsort(-scores[a:b], kind="stable")[:n] for (a, b, _), n in zip(leaves, counts, strict=True)]
        return np.concatenate(best)

    def _leaves(self, scores: Floats, start: int, end: int, k: int, left: int) -> Iterator[tuple[int, int, int]]:
        """The leaves of the frames from `start` to before `end`, each with the halvings that are left to it."""
        part = scores[start:end]
        stands_out = np.sort(part)[::-1][:k].mean() - part.mean() > self.threshold
        if left == 0 or stands_out or len(part) < 2:
            yield start, end, left
            return
        middle = start + len(part) // 2
        yield from self._leaves(scores, start, middle, k, left - 1)
        yield from self._leaves(scores, middle, end, k, left - 1)
