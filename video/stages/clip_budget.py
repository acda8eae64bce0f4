"""Budgets over the clips of a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtc.stages import Allocator, Even
from vtc.tokens import FRAMES, VisualTokens

from ..budgets import Rule, clip_budget, frame_weights
from ..clips import Clip
from ..segment import SEGMENTERS, Segmenter, segment
from ..weights import ClipWeights
from .film import describe, is_film
from .over_clips import OverClips


@dataclass(frozen=True)
class ClipBudget(OverClips):
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
    cues: ClassVar[tuple[str, ...]] = (FRAMES,)

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
        if not is_film(layout):
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
        # Where frames have counts of their own, pools are those of any allocator.
        return super().pools(tokens, total) if self.together else Allocator.pools(self, tokens, total)

    def weighed(self, tokens: VisualTokens) -> tuple[Sequence[Clip], Sequence[float]]:
        """See `OverClips.weighed`."""
        features = describe(tokens.cue(FRAMES))
        clips = self.clips(features)
        return clips, self.weights.weigh(clips, features).tolist()

    def least(self, candidates: Sequence[int], total: int) -> Sequence[int]:
        """See `OverClips.least`."""
        least = [min(self.floor, own) for own in candidates]
        if sum(least) > total:
            raise ValueError(
                f"floor={self.floor} asks for {sum(least)} tokens over {len(candidates)} clips, and keep leaves "
                f"{total}; lower the floor or raise keep"
            )
        return least
