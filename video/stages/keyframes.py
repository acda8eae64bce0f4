"""Frames left out before the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vtc.core.specification import normalized, spec_of
from vtc.core.validation import check_share
from vtc.stages import FrameSelector
from vtc.video.clips.frame_features import COLOR_LAYOUT, TOWER, check_features
from vtc.video.clips.frame_scores import check_scorer
from vtc.video.keyframes import KeyframeSelector, keyframes

from .base import describe
from .clip_budget import cut


@dataclass(frozen=True)
class Keyframes(FrameSelector):
    """Encodes the keyframes alone, as one of `vtc.video.keyframes` chooses them.

    Frames are described by `describe`; those that the encoder takes together stay together. In front of the encoder
    nothing is known of the question, nor of what the model's tower makes of a frame: a strategy that asks, and
    `features="tower"`, choose where the file is read (`vtc.video.ask` and `prepare`, `vtc ask`, `vtc batch`), and a
    wrapped model refuses them.

    Attributes:
        strategy: as `vtc.video.keyframes.keyframes` takes it: a name such as `maxmin` or `segments:segmenter=even`, an
            object with a name and parameters, or a selector.
        share: the share (0, 1] of frames to leave, or None to leave as many as the recipe's `keep` has room for.
        features: what frames are compared by: `color-layout`, `tower` or `timm:NAME`, see
            `vtc.video.clips.frame_features`.
        scorer: what scores frames for a strategy that asks: `model` or `clip:FOLDER`, see
            `vtc.video.clips.frame_scores`; None: nothing, or the `scores` that `prepare` is given.
    """

    strategy: str | KeyframeSelector = "maxmin"
    share: float | None = None
    features: str = COLOR_LAYOUT
    scorer: str | None = None

    name = "keyframes"
    signal = "pixels of the frames"

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", check_share("share", self.share, of="frames"))
        object.__setattr__(self, "strategy", normalized(keyframes(self.strategy)))
        check_features(self.features)
        if self.scorer is not None:
            check_scorer(self.scorer)
        if self.selector.asks and self.scorer is None:
            raise ValueError(
                f"strategy={self.selector.name!r} chooses by a question; say what scores frames, as scorer='model' or "
                "scorer='clip:FOLDER', or choose frames with vtc.video.prepare(..., selector=..., scores=...)"
            )
        if self.scorer is not None and not self.selector.asks:
            raise ValueError(
                f"scorer={self.scorer!r} scores frames for a question, and strategy={self.selector.name!r} asks none; "
                "take 'aks' or 'mmr', or leave it out"
            )

    def parameters(self) -> dict[str, Any]:
        """See `Stage.parameters`."""
        return {**super().parameters(), "strategy": spec_of(self.selector)}

    @property
    def selector(self) -> KeyframeSelector:
        """The strategy itself."""
        return keyframes(self.strategy)

    @property
    def own_share(self) -> float | None:
        """See `InputStage.own_share`."""
        return self.share

    @property
    def needs_file(self) -> bool:
        """Whether frames can only be chosen where the file is read."""
        return self.selector.asks or self.features == TOWER

    @property
    def refusal(self) -> str | None:
        """See `Stage.refusal`."""
        if not self.needs_file:
            return None
        why = f"features={TOWER!r}" if self.features == TOWER else f"strategy={self.selector.name!r}"
        return (
            f"stage {self.label!r} with {why} chooses frames before the encoder, which knows no question and has "
            "encoded nothing yet; ask with vtc.video.ask, `vtc ask` or `vtc batch`, or take another strategy, such as "
            "'maxmin', by 'color-layout'"
        )

    def choose(self, frames: Tensor, k: int) -> Tensor:
        """See `FrameSelector.choose`.

        Raises:
            ValueError: see `refusal`.
        """
        if self.refusal is not None:
            raise ValueError(self.refusal)
        cutter = self.selector.cutter
        clips = cut(cutter, frames) if cutter is not None else None
        return torch.from_numpy(self.selector.select(describe(frames, self.features), k, clips=clips))
