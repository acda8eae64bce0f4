"""More tokens for the units whose tokens differ from one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.core.validation import check_number
from vtc.stages.base import Allocator
from vtc.stages.ops import unit_rows

from .minimums import check_floor, shared

BLOCK = 1024
"""Tokens compared with the others at once: no matrix of all with all is held."""


@dataclass(frozen=True)
class Density(Allocator):
    """Each unit gets a part of the budget by how many of its tokens are not redundant.

    A token is redundant if more than the share `peers` of its unit's other tokens have a key whose cosine with its own
    is above `similarity`. The information density of a unit is one less its share of redundant tokens, and it weighs
    `candidates * density`. Blank units are served last; where all are blank, candidates count alone.

    A reconstruction of TokenCorrCompressor (arXiv 2407.14439): its code was never released. That density
    comes from the cosine of keys and counts peers is from the paper; both thresholds here are unverified.

    Attributes:
        similarity: cosine above which two tokens are peers, in [-1, 1).
        peers: the share of peers above which a token is redundant, in [0, 1).
        floor: the least tokens per unit; all of a unit that has fewer. It gives way where the item keeps fewer in all.
    """

    similarity: float = 0.8
    peers: float = 0.1
    floor: int = 0

    name = "density"
    paper = "TokenCorrCompressor, 2407.14439 (reconstruction)"
    signal = "similarity of the encoder's keys"
    cost = "N·N"
    cues = ("keys",)

    def __post_init__(self) -> None:
        for name, low in (("similarity", -1), ("peers", 0)):
            number = check_number(name, getattr(self, name), low, 1, ends="[)")
            object.__setattr__(self, name, number)  # any number, and still a recipe file
        object.__setattr__(self, "floor", check_floor(self.floor))

    @property
    def unit_floor(self) -> int:
        """See `Allocator.unit_floor`."""
        return self.floor

    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """See `Allocator.allocate`."""
        layout, keys = tokens.layout, tokens.cue("keys")
        distinct = []
        for unit in range(len(layout.grids)):
            own = torch.nonzero(~layout.structural & (layout.unit == unit)).flatten()
            distinct.append(self._distinct(keys[own.to(keys.device)]))
        return shared(total, torch.stack(distinct).tolist(), layout.candidates, self.floor)

    def _distinct(self, keys: Tensor) -> Tensor:
        """Return how many of `keys` `[n, C]` are not redundant, which is n times their density: `[]` int64."""
        rows = unit_rows(keys)
        found = torch.zeros((), dtype=torch.int64, device=keys.device)
        # The tiny slack lets a product that binary floats cannot hold (.29 * 100) reach its whole number.
        few = math.floor(self.peers * (len(rows) - 1) + 1e-9)
        for start in range(0, len(rows), BLOCK):
            cosine = rows[start : start + BLOCK] @ rows.T
            cosine.diagonal(start).fill_(-torch.inf)  # no token is its own peer
            found += ((cosine > self.similarity).sum(dim=1) <= few).sum()
        return found
