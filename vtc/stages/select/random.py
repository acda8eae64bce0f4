"""A random subset: the baseline that methods must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.stages.base import Selector


@dataclass(frozen=True)
class Random(Selector):
    """`k` tokens drawn without replacement, by the recipe's seed and the item's content."""

    name = "random"
    signal = "none (seeded draw)"
    seeded = True

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`. The draw is made on the CPU, so that every device draws alike."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(len(pool), generator=generator)[:k].sort().values
        return pool[drawn.to(pool.device)]
