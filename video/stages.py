"""Stages of a video: frames left out before the encoder, and budgets over clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtc.stages import Allocator, Even, FrameSelector
from vtc.stages.input.shares import check_share
from vtc.tokens import FRAMES, Layout, VisualTokens

from .allocate import allocate
from .budgets import Rule, clip_budget, frame_weights
from .clips import Clip
from .features import ColorLayout
from .keyframes import KEYFRAMES, KeyframeSelector
from .segment import SEGMENTERS, Segmenter, segment
from .weights import ClipWeights


@dataclass(frozen=True)
class Keyframes(FrameSelector):
    """Encodes the keyframes alone, as one of `vtc.video.keyframes` chooses them.

    Frames are described by `describe`; those that the encoder takes together stay together.

    Attributes:
        strategy: a name in `KEYFRAMES`, of a selector that asks for no question.
        share: the share (0, 1] of frames to leave, or None to leave as many as the recipe's `keep` has room for.
    """

    strategy: str = "maxmin"
    share: float | None = None

    name = "keyframes"
    signal = "pixels of the frames"

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", check_share(self.share))
        if self.selector.asks:
            raise ValueError(
                f"strategy={self.strategy!r} chooses by a question, and the encoder's input knows none; choose frames "
                "with vtc.video.prepare(..., scores=...), or take one that asks nothing, such as 'maxmin'"
            )

    @property
    def selector(self) -> KeyframeSelector:
        """The strategy, with its own defaults."""
        return KEYFRAMES.get(self.strategy)()

    @property
    def own_share(self) -> float | None:
        """See `InputStage.own_share`."""
        return self.share

    def choose(self, frames: Tensor, k: int) -> Tensor:
        """See `FrameSelector.choose`."""
        return torch.from_numpy(self.selector.select(describe(frames), k))


def describe(frames: Tensor) -> NDArray[np.float32]:
    """`[T, D]` what `ColorLayout` says of `frames` `[T, F, 3, H, W]`, F frames side by side.

    Values of any range: the lowest of the video becomes black and the highest white, so that it does not matter how a
    processor normalises pixels.
    """
    pixels = torch.nan_to_num(frames.detach().flatten(0, 1).float(), nan=0.0, posinf=0.0, neginf=0.0).cpu()
    low, high = pixels.min(), pixels.max()
    shades = ((pixels - low) / (high - low).clamp_min(1e-9) * 255).round().to(torch.uint8)
    return ColorLayout().describe(shades.permute(0, 2, 3, 1).contiguous().numpy()).reshape(len(frames), -1)


@dataclass(frozen=True)
class ClipBudget(Allocator):
    """Cuts a video into clips by what its frames show, and shares tokens over clips by how much each holds.

    Frames (those that are encoded, where some are left out before) are described as `Keyframes` does, so that clips and
    their counts depend on pixels alone and not on what the encoder makes of them. A clip weighs by length, novelty,
    motion and density (`ClipWeights`): a long stretch in which nothing happens gets less than its length would ask for.
    Inside a clip either all its tokens compete (`together`), so that what repeats from frame to frame is kept once, or
    each frame has its own count (`frame_weights`). An item that is no video is shared as `even` does.

    Attributes:
        segmenter: a name in `SEGMENTERS`, of one that takes features or times.
        length, novelty, motion, density: exponents, see `ClipWeights`.
        together: whether the tokens of a clip compete with each other across its frames.
        frames: where they do not, how a clip's frames share: `even`, `change` or `first`, see `frame_weights`.
        floor: the least tokens of a clip; all of a clip that has fewer. At 0 a clip can get none, which the report
            shows.
    """

    segmenter: str = "neighbour"
    length: float = 1.0
    novelty: float = 1.0
    motion: float = 1.0
    density: float = 1.0
    together: bool = True
    frames: Rule = "change"
    floor: int = 0

    name = "clips"
    paper = "the idea of LangDC (clips by density), without its training"
    signal = "pixels of the frames, by clip"
    cues = (FRAMES,)

    def __post_init__(self) -> None:
        weights = self.weights
        for name in ("length", "novelty", "motion", "density"):
            object.__setattr__(self, name, getattr(weights, name))  # any number, and still a recipe file
        if self._segmenter.wants == "frame":
            raise ValueError(
                f"segmenter={self.segmenter!r} looks at consecutive frames of a film, and a model gets some of them; "
                "use one such as 'neighbour'"
            )
        frame_weights(np.zeros((0, 1)), self.frames)
        if isinstance(self.floor, bool) or not isinstance(self.floor, int) or self.floor < 0:
            raise ValueError(f"floor={self.floor!r}; expected the least number of tokens of a clip, an int from 0")

    @property
    def weights(self) -> ClipWeights:
        """What a clip weighs."""
        return ClipWeights(self.length, self.novelty, self.motion, self.density)

    @property
    def _segmenter(self) -> Segmenter:
        return SEGMENTERS.get(self.segmenter)()

    def clips(self, features: NDArray[np.floating[Any]]) -> tuple[Clip, ...]:
        """The clips of a video whose frames are described by `features` `[T, D]`, evenly spaced."""
        return segment(features, np.arange(len(features), dtype=float), self._segmenter)

    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """See `Allocator.allocate`: what each frame gets where frames have counts of their own.

        Raises:
            ValueError: `total` cannot give every clip its floor.
        """
        layout = tokens.layout
        if not _is_film(layout):
            return Even().allocate(tokens, total)
        features = describe(tokens.cue(FRAMES))
        clips = self.clips(features)
        inside = np.concatenate([frame_weights(features[c.start : c.end], self.frames) for c in clips])
        weights = self.weights.weigh(clips, features).tolist()
        return clip_budget(
            clips, layout.candidates, total, weights, frame_weights=inside.tolist(), clip_floor=self.floor
        )

    def pools(self, tokens: VisualTokens, total: int) -> list[tuple[Tensor, int]]:
        """See `Allocator.pools`: the tokens of each clip, or of each frame."""
        layout = tokens.layout
        if not self.together or not _is_film(layout):
            return super().pools(tokens, total)
        features = describe(tokens.cue(FRAMES))
        clips = self.clips(features)
        free = ~layout.structural
        inside = [(layout.unit >= clip.start) & (layout.unit < clip.end) & free for clip in clips]
        counts = self._counts(clips, features, [int(mask.sum()) for mask in inside], total)
        return [(torch.nonzero(mask).flatten(), count) for mask, count in zip(inside, counts, strict=True)]

    def _counts(
        self, clips: Sequence[Clip], features: NDArray[np.floating[Any]], candidates: Sequence[int], total: int
    ) -> list[int]:
        least = [min(self.floor, own) for own in candidates]
        if sum(least) > total:
            raise ValueError(
                f"floor={self.floor} asks for {sum(least)} tokens over {len(clips)} clips, and keep leaves {total}; "
                "lower the floor or raise keep"
            )
        return allocate(self.weights.weigh(clips, features).tolist(), total, min_per=least, max_per=candidates)


def _is_film(layout: Layout) -> bool:
    return set(layout.kinds) == {"frame"}
