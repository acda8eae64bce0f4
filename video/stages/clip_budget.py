"""Budgets over the clips of a video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtc.core.specification import normalized, spec_of
from vtc.core.tokens import FRAMES, VisualTokens
from vtc.core.validation import check_int
from vtc.stages import Allocator, Even
from vtc.stages.allocate.minimums import lowered
from vtc.video.clips.budgets import Rule, clip_budget, frame_weights
from vtc.video.clips.clip import Clip
from vtc.video.clips.frame_features import COLOR_LAYOUT, TOWER, check_features
from vtc.video.clips.segmenters import (
    Segmenter,
    clips_of,
    frame_cuts,
    segmenter,
    unit_clips,
)
from vtc.video.clips.weights import ClipWeights

from .base import (
    describe,
    frame_means,
    is_video,
    shades,
)
from .over_clips import OverClips

Seen = tuple[NDArray[np.floating[Any]], tuple[Clip, ...]]
"""Features `[T, D]` of the units of a video, and its clips."""


@dataclass(frozen=True)
class ClipBudget(OverClips):
    """Cuts a video into clips by what its frames show, and shares tokens over clips by how much each holds.

    Frames (those that are encoded, where some are left out before) are described as `Keyframes` does, so that clips and
    their counts depend on pixels alone and not on what the encoder makes of them. A clip weighs by length, novelty,
    motion and density (`ClipWeights`): a long stretch in which nothing happens gets less than its length would ask for.
    Inside a clip either all its tokens compete (`together`), so that what repeats from frame to frame is kept once, or
    each frame has its own count (`frame_weights`). An item that is no video is shared as `even` does.

    Attributes:
        segmenter: as `vtc.video.clips.segmenters.segmenter` takes it: a name such as `neighbour`, `even:parts=4` or
            `tdc`, an object with a name and parameters, or a segmenter. One of PySceneDetect's (`content`, `adaptive`,
            `hash`) is shown the frames that the stage sees, one after the other, whatever lies between them.
        features: what clips are cut and weighed by: `color-layout` of the small frames; `timm:NAME` of them; or
            `tower`, the mean token of each frame as the model's own tower gives it.
        length, novelty, motion, density: exponents, see `ClipWeights`.
        together: whether the tokens of a clip compete with each other across its frames.
        frames: where they do not, how a clip's frames share: `even`, `change` or `first`, see `frame_weights`.
        floor: the least tokens of a clip; all of a clip that has fewer. It gives way where the video keeps too few for
            all clips. At 0 a clip can get none, which the report shows.
    """

    segmenter: str | Segmenter = "neighbour"
    length: float = 1.0
    novelty: float = 1.0
    motion: float = 1.0
    density: float = 1.0
    together: bool = True
    frames: Rule = "change"
    floor: int = 0
    features: str = COLOR_LAYOUT

    name = "clips"
    paper = "the idea of LangDC (clips by density), without its training"
    signal = "pixels of the frames, by clip"
    cues: ClassVar[tuple[str, ...]] = (FRAMES,)

    def __post_init__(self) -> None:
        weights = self.weights
        for name in ("length", "novelty", "motion", "density"):
            object.__setattr__(self, name, getattr(weights, name))  # any number, and still a recipe file
        object.__setattr__(self, "segmenter", normalized(segmenter(self.segmenter)))
        check_features(self.features)
        frame_weights(np.zeros((0, 1)), self.frames)
        floor = check_int("floor", self.floor, 0, expected="the least number of tokens of a clip, an int of at least 0")
        object.__setattr__(self, "floor", floor)

    @property
    def weights(self) -> ClipWeights:
        """Weight rule of a clip."""
        return ClipWeights(self.length, self.novelty, self.motion, self.density)

    def parameters(self) -> dict[str, Any]:
        """See `Stage.parameters`."""
        return {**super().parameters(), "segmenter": spec_of(self.rule)}

    @property
    def rule(self) -> Segmenter:
        """The segmenter itself."""
        return segmenter(self.segmenter)

    @property
    def cutter(self) -> Segmenter | None:
        """The segmenter, if it looks at the frames themselves."""
        return self.rule if self.rule.wants == "frame" else None

    def clips(self, features: NDArray[np.floating[Any]], clips: Sequence[Clip] | None = None) -> tuple[Clip, ...]:
        """The clips of a video whose units are described by `features` `[T, D]`, evenly spaced.

        Args:
            features: of the units.
            clips: that `cutter` has found, where there is one.

        Raises:
            ValueError: a segmenter that looks at frames, and no clips of it.
        """
        return clips_of(self.rule, features) if clips is None else tuple(clips)

    def seen(self, video: Tensor, means: Callable[[], NDArray[np.floating[Any]]] | None = None) -> Seen:
        """Return the budgets of a video.

        Args:
            video: `[T, F, 3, h, w]` small frames.
            means: gives `frame_means`, for `tower`; without it the frames' colors stand in.
        """
        name = COLOR_LAYOUT if self.features == TOWER else self.features
        rows = means() if self.features == TOWER and means is not None else describe(video, name)
        return rows, self.clips(rows, cut(self.cutter, video) if self.cutter is not None else None)

    def _seen(self, tokens: VisualTokens) -> Seen:
        return self.seen(tokens.cue(FRAMES), partial(frame_means, tokens))

    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """See `Allocator.allocate`: what each frame gets where frames have counts of their own."""
        layout = tokens.layout
        if not is_video(layout):
            return Even().allocate(tokens, total)
        features, clips = self._seen(tokens)
        inside = np.concatenate([frame_weights(features[c.start : c.end], self.frames) for c in clips])
        weights = self.weights.weigh(clips, features).tolist()
        own = [sum(layout.candidates[clip.start : clip.end]) for clip in clips]
        least = lowered(total, own, self.floor)
        return clip_budget(clips, layout.candidates, total, weights, frame_weights=inside.tolist(), clip_floor=least)

    def pools(self, tokens: VisualTokens, total: int) -> list[tuple[Tensor, int]]:
        """See `Allocator.pools`: the tokens of each clip, or of each frame."""
        # Where frames have counts of their own, pools are those of any allocator.
        return super().pools(tokens, total) if self.together else Allocator.pools(self, tokens, total)

    def weighed(self, tokens: VisualTokens) -> tuple[Sequence[Clip], Sequence[float]]:
        """See `OverClips.weighed`."""
        features, clips = self._seen(tokens)
        return clips, self.weights.weigh(clips, features).tolist()

    def least(self, candidates: Sequence[int], total: int) -> Sequence[int]:
        """See `OverClips.least`."""
        least = lowered(total, candidates, self.floor)
        return [min(least, own) for own in candidates]


def cut(rule: Segmenter, video: Tensor) -> tuple[Clip, ...]:
    """The clips of the units of `video` `[T, F, 3, h, w]` by a segmenter that looks at frames."""
    frames = shades(video)
    return unit_clips(frame_cuts(rule, frames), len(frames), video.shape[1])
