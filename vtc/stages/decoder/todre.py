"""All visual tokens leave once text and image have stopped attending to each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import (
    Cut,
    DecoderStage,
    DecoderTokens,
    Reads,
    Schedule,
)


@dataclass(frozen=True)
class ToDRE(DecoderStage):
    """Withdraws an item's tokens before the schedule's layer if both cross attentions are below `threshold`.

    Both are shares of a query's attention in the layer before, mean over heads and queries: of text to the item's
    tokens, and of these to the text (section 4.2). Only text behind the item sees it, and it sees only text before it.
    Text in front of a conversation's first image counts as the system prompt, which the paper leaves out: the first
    token draws much of all attention, and would hold every image back.

    Attributes:
        schedule: the paper has 28 of 32 layers.
        threshold: tau; the paper finds .1 best, and earlier layers much worse.
    """

    schedule: Schedule = ((0.875, 0),)
    threshold: float = 0.1

    name = "todre"
    paper = "ToDRE, 2505.18757"
    signal = "attention between text and image"
    cost = "N"
    adaptive = True
    reads = Reads("previous", "all")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule[-1][1] != 0 or len(self.schedule) > 1:
            raise ValueError(f"schedule={self.schedule}: 'todre' withdraws all at one layer; give [(layer, 0)]")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}; expected a share of the attention in (0, 1]")

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Tensor:
        """See `DecoderStage.keep`: all tokens, or none."""
        shown = tokens.shown
        toward_item, toward_text = shown.query.new_zeros(2, dtype=torch.float32)
        for rows, part in shown.blocks():
            words = max(0, min(shown.words - rows.start, part.shape[1]))
            toward_item += part[:, :words, shown.own].sum()
            toward_text += part[:, words:, shown.text].sum()
        heads, queries = shown.query.shape[:2]
        below = toward_item < self.threshold * heads * shown.words
        below &= toward_text < self.threshold * heads * (queries - shown.words)
        return torch.arange(0 if bool(below) else len(tokens), device=tokens.states.device)
