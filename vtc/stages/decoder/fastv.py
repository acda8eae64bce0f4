"""FastV: selection by the attention of the prompt's last token in an early layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vtc.stages.ops import top_k

from .base import (
    Cut,
    DecoderStage,
    DecoderTokens,
    Reads,
    Schedule,
)


@dataclass(frozen=True)
class FastV(DecoderStage):
    """The highest attention of the last token in the layer before, softmax over all keys, mean over heads.

    So the authors' code has it; section 4.1 speaks of the mean attention that a token receives from all others.
    Scores lean to the end of the image, since rotary positions damp what is far away: see `Feather`.
    """

    schedule: Schedule = ((2, 0.5),)

    name = "fastv"
    paper = "FastV, 2403.06764"
    signal = "attention of the last token"
    cost = "N"
    reads = Reads("previous")

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Tensor:
        """See `DecoderStage.keep`."""
        return top_k(tokens.shown.to_own()[:, 0].mean(dim=0), count)
