"""Every n-th token: the cheapest even cover."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.stages.base import Selector


@dataclass(frozen=True)
class Stride(Selector):
    """`k` tokens at even distance in raster order, each in the middle of its stretch."""

    name = "stride"
    signal = "place in raster order"

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`. Integer arithmetic, so the places are exact at any length."""
        places = ((2 * torch.arange(k, device=pool.device) + 1) * len(pool)) // (2 * k)
        return pool[places]
