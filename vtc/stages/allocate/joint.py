"""One pool for the whole item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vtc.core.tokens import VisualTokens
from vtc.stages.base import Allocator


@dataclass(frozen=True)
class Joint(Allocator):
    """The selector chooses from all units at once, so that its choice alone says what each unit gets.

    So do DivPrune (arXiv 2503.02175) and ToDRE (arXiv 2505.18757) with tiles: thumbnail and crops are one
    pool. A unit can be left with nothing.
    """

    name = "joint"
    signal = "none (the selector decides)"
    joint = True

    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """One count, for the pool of all units."""
        return [total]
