"""Two densities: frames that bring something new are dense, the others sparse."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtc.core.allocation import allocate
from vtc.core.tokens import FRAMES, VisualTokens
from vtc.core.validation import check_int, check_number
from vtc.stages import Allocator, Even
from vtc.video.clips.budgets import check_lead
from vtc.video.clips.frame_arrays import as_floats, changes, unit_rows
from vtc.video.clips.frame_features import COLOR_LAYOUT, check_features
from vtc.video.clips.segmenters import Neighbour, segment
from vtc.video.keyframes.kffocus import key_frames

from .base import described, is_video


class TwoDensities(Allocator):
    """A dense frame weighs as much as `lead` sparse ones. A subclass defines `dense`.

    Counts are exact by water-filling: what a full frame cannot take goes to the others. An item that is no video is
    shared as `even` does.
    """

    lead: float
    features: str
    videos = True
    cues = (FRAMES,)

    @abstractmethod
    def dense(self, features: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """The dense frames of those described by `features` `[T, D]`, ascending; the first is among them."""

    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """See `Allocator.allocate`."""
        layout = tokens.layout
        if not is_video(layout):
            return Even().allocate(tokens, total)
        features = described(tokens, self.features)
        weights = np.ones(len(features))
        weights[self.dense(features)] = self.lead
        shares = [weight * own for weight, own in zip(weights.tolist(), layout.candidates, strict=True)]
        return allocate(shares, total, max_per=layout.candidates)


@dataclass(frozen=True)
class KeyDensity(TwoDensities):
    """Key frames as a codec's are dense: the first, and those that differ most from the frame before.

    The half of KFFocus' idea (arXiv 2508.08989, no code) that acts on tokens: what is not a key frame is compressed
    further. Which frames are is `keyframes.kffocus.key_frames`; how much further is not known, and is `lead` here. A
    frame that repeats the one before is never a key frame.

    Attributes:
        keys: the share of frames, 0 to 1, that may be key frames; there is at least one.
        lead: how many other frames a key frame weighs as much as, at least 1.
        features: what frames are compared by, as `ClipBudget.features`.
    """

    keys: float = 0.25
    lead: float = 4.0
    features: str = COLOR_LAYOUT

    name = "key-density"
    paper = "KFFocus, 2508.08989 (its idea; no code exists)"
    signal = "change from frame to frame"

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", check_number("keys", self.keys, 0, 1))
        check_features(self.features)
        object.__setattr__(self, "lead", check_lead(self.lead))

    def dense(self, features: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """See `TwoDensities.dense`."""
        change = changes(unit_rows(as_floats("features", features, 2)))
        return key_frames(change, max(1, int(len(features) * self.keys + 0.5)))


@dataclass(frozen=True)
class FirstOfSegment(TwoDensities):
    """The first frame of each stretch of a segment is dense, the rest of it condensed.

    TDC-Video's shape without its training: windows of `window` frames are cut at their lowest similarities
    (`Neighbour.tdc`), segments are taken `stretch` frames at a time, the first keeps 144 tokens and each other 16,
    which there a question-conditioned transformer makes of the whole frame and here are tokens of that frame. TDC cuts
    up to 24 times in any window of 64, so that 25 frames or fewer are all dense and nothing is condensed; here the same
    density of cuts, 24 in 64, holds for shorter videos too.

    Attributes:
        cuts: of a window of `window` frames.
        window: frames that share them.
        stretch: the most frames that follow one dense frame, itself among them.
        lead: how many condensed frames a dense one weighs as much as, at least 1.
        features: what frames are compared by, as `ClipBudget.features`; TDC-Video compares its encoder's.
    """

    cuts: int = 24
    window: int = 64
    stretch: int = 8
    lead: float = 9.0
    features: str = COLOR_LAYOUT

    name = "first-of-segment"
    paper = "TDC-Video (its densities, without its training)"
    signal = "change from frame to frame"

    def __post_init__(self) -> None:
        for name in ("cuts", "window", "stretch"):
            object.__setattr__(self, name, check_int(name, getattr(self, name), 1))
        object.__setattr__(self, "lead", check_lead(self.lead))
        check_features(self.features)

    def dense(self, features: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """See `TwoDensities.dense`."""
        frames = min(len(features), self.window)
        rule = Neighbour.tdc(least=max(1, round(self.cuts * frames / self.window)), window=self.window)
        clips = segment(features, np.arange(len(features), dtype=float), rule)
        return np.concatenate([np.arange(clip.start, clip.end, self.stretch) for clip in clips])
