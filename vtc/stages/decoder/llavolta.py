"""Average pooling at a layer, made for training."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vtc.core.tokens import Reduction

from .base import (
    Cut,
    DecoderStage,
    DecoderTokens,
    Schedule,
)


@dataclass(frozen=True)
class LLaVolta(DecoderStage):
    """Averages neighbouring tokens, in raster order, from a layer on (section 3.2).

    A pooled token stands at the middle position of its window, rounded down, as in the paper. Windows are as even as
    whole numbers allow, so that no token is left out. They follow the prompt, so that one may hold tokens of two lines
    or tiles of an image. `vtc.integrations.trainer` follows the paper's stages.

    Attributes:
        schedule: (layer, 1 / stride).
    """

    schedule: Schedule = ((2, 0.5),)

    name = "llavolta"
    paper = "LLaVolta, 2406.20092"
    signal = "order of the tokens"

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Reduction:
        """See `DecoderStage.keep`."""
        assign = torch.arange(len(tokens), device=tokens.states.device) * count // len(tokens)
        first = torch.searchsorted(assign, torch.arange(count, device=assign.device))
        last = torch.cat([first[1:], first.new_tensor([len(tokens)])]) - 1
        return Reduction((first + last) // 2, assign, torch.ones(len(tokens), device=assign.device))
