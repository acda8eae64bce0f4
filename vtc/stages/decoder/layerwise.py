"""Uniform downsampling at chosen layers: no score at all."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import (
    Cut,
    DecoderStage,
    DecoderTokens,
    Schedule,
)
from .spread import evenly


@dataclass(frozen=True)
class Layerwise(DecoderStage):
    """An even 2-D sample of each image stays; deeper layers get fewer.

    Attributes:
        schedule: the paper's layers are in no text that could be read; these are ours.
    """

    schedule: Schedule = ((0.25, 0.5), (0.5, 0.25))

    name = "layerwise"
    paper = "ADSC, 2602.12618"
    signal = "place in the image"

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Tensor:
        """See `DecoderStage.keep`."""
        return evenly(tokens.layout, tokens.index.cpu(), count).to(tokens.states.device)
