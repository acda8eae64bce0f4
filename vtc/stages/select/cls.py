"""The tokens that the encoder itself attends to most."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.stages.base import Selector
from vtc.stages.ops import top_k


@dataclass(frozen=True)
class Cls(Selector):
    """Top `k` by CLS attention at the layer that gives the features; by attention received where there is no CLS.

    The rule of FasterVLM (arXiv 2412.01818, section 3.2): softmax over all keys, mean over heads.
    """

    name = "cls"
    paper = "FasterVLM, 2412.01818"
    signal = "attention inside the encoder"
    cues = ("attention",)

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`."""
        return pool[top_k(tokens.cue("attention")[pool], k)]
