"""The same share of every unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...budget import share
from ...tokens import VisualTokens
from ..base import Allocator


@dataclass(frozen=True)
class Even(Allocator):
    """Each unit gets a part of the budget in proportion to its candidates, exact by largest remainder."""

    name = "even"
    signal = "number of tokens"

    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """See `Allocator.allocate`."""
        candidates = tokens.layout.candidates
        return share(total, candidates, caps=candidates)
