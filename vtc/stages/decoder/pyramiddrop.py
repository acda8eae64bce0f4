"""PyramidDrop: selection by the attention of the prompt's last token in the next layer, several times."""

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
class PyramidDrop(DecoderStage):
    """The highest attention of the last instruction token by the next layer's own queries and keys (section 3.2).

    The paper's code renumbers positions after each drop; here tokens keep theirs.
    """

    schedule: Schedule = ((0.25, 0.5), (0.5, 0.25), (0.75, 0.125))

    name = "pyramiddrop"
    paper = "PyramidDrop, 2410.17247"
    signal = "attention of the last token, at each stage"
    cost = "N"
    reads = Reads("own")

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Tensor:
        """See `DecoderStage.keep`."""
        return top_k(tokens.shown.to_own()[:, 0].mean(dim=0), count)
