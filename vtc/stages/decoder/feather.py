"""Attention of the last token without positions, and a uniform grid beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.validation import check_int
from vtc.stages.ops import top_k

from .base import (
    Cut,
    DecoderStage,
    DecoderTokens,
    Reads,
    Schedule,
    places,
)


@dataclass(frozen=True)
class Feather(DecoderStage):
    """The last token's attention in the layer before, rotations undone, softmax over the item's own tokens.

    At the first step every `stride`-th row and column stays as well, so that no region is lost while scores are still
    rough (sections 4.1, 4.2). How many tokens that adds depends on where the best ones lie: the count is adaptive.

    Attributes:
        schedule: (layer, share of best tokens). The paper has layers 8 and 16 of 32, and at the second keeps .09 of
            what is left: with the grid that is .378, so .034 of all.
        stride: of the uniform grid of the first step; 0 for none.
    """

    schedule: Schedule = ((0.25, 0.3), (0.5, 0.034))
    stride: int = 3

    name = "feather"
    paper = "FEATHER, 2412.13180"
    signal = "attention of the last token without positions, and a grid"
    cost = "N"
    adaptive = True
    reads = Reads("previous", unrotated=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        stride = check_int("stride", self.stride, 0, expected="an int of at least 1, or 0 for no grid")
        object.__setattr__(self, "stride", stride)

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Tensor:
        """See `DecoderStage.keep`."""
        scores = tokens.shown.without_rotation()[:, 0].mean(dim=0)
        chosen = torch.zeros(len(tokens), dtype=torch.bool, device=scores.device)
        chosen[top_k(scores, count)] = True
        if self.stride and cut.step == 0:
            cell = tokens.layout.cell[tokens.index.cpu(), 1:]
            chosen |= (cell % self.stride == 0).all(dim=1).to(chosen.device)
        return places(chosen)
