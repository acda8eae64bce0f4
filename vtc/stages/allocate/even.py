"""The same share of every unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vtc.core.tokens import VisualTokens
from vtc.stages.base import Allocator

from .minimums import check_floor, shared


@dataclass(frozen=True)
class Even(Allocator):
    """Each unit gets a part of the budget in proportion to its candidates, exact by largest remainder.

    Attributes:
        floor: the least tokens per unit; all of a unit that has fewer. It gives way where the item keeps fewer in all.
    """

    floor: int = 0

    name = "even"
    signal = "number of tokens"

    def __post_init__(self) -> None:
        object.__setattr__(self, "floor", check_floor(self.floor))

    @property
    def unit_floor(self) -> int:
        """See `Allocator.unit_floor`."""
        return self.floor

    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """See `Allocator.allocate`."""
        candidates = tokens.layout.candidates
        return shared(total, candidates, candidates, self.floor)
