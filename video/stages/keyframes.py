"""Frames left out before the encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.stages import FrameSelector
from vtc.stages.input.shares import check_share

from ..keyframes import KEYFRAMES, KeyframeSelector
from .film import describe


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
