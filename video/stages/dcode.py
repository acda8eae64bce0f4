"""Strong tokens that do not repeat each other, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.core.validation import check_number
from vtc.stages import Selector
from vtc.stages.ops import unit_rows

DIGITS = 6


@dataclass(frozen=True)
class StrongApart(Selector):
    """Tokens by the length of their features, less those that resemble one picked before.

    The token stage of D-CoDe (EMNLP 2025) at an exact count. There the longest 288 of a frame's 576 tokens stay, and of
    those with a cosine of at least `similarity` all but the first are merged: how many are left depends on the
    image, a token that is merged into one which is itself merged is lost, and places are in the order of lengths.
    Here a token is compared with picked ones alone; where they are too few, the longest of the others follow; order is
    kept, and `Mean(least=similarity)` merges what resembles a picked one into the nearest such.

    Attributes:
        similarity: cosine from which a token repeats another, in [-1, 1].
    """

    similarity: float = 0.8

    name = "strong-apart"
    paper = "D-CoDe (EMNLP 2025)"
    signal = "length and similarity of the features"
    cost = "N·K"

    def __post_init__(self) -> None:
        object.__setattr__(self, "similarity", check_number("similarity", self.similarity, -1, 1))

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`."""
        features = tokens.features.detach()[pool].float()
        rows = unit_rows(features)
        length = torch.nan_to_num(features.norm(dim=1), nan=-1.0, posinf=-1.0)
        order = torch.sort(length, descending=True, stable=True).indices
        # The rank by length, above all else where nothing picked resembles the token; what is picked is below all.
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order) - 1, -1, -1, device=order.device)
        fresh = torch.ones_like(rank, dtype=torch.bool)
        picked = torch.zeros_like(fresh)
        for _ in range(k):
            best = (rank + len(pool) * fresh - 3 * len(pool) * picked).argmax()
            picked[best] = True
            fresh &= (rows @ rows[best]).round(decimals=DIGITS) < self.similarity
        return pool[picked]
