"""The tokens that leave no other far away: greedy max-min diversity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.stages.base import Pool, Selector

from .maxmin import maxmin, maxmin_each


@dataclass(frozen=True)
class KCenter(Selector):
    """Greedy max-min dispersion on the cosine distance of the features, with no attention and no question.

    The rule of DivPrune (arXiv 2503.02175, section 3), with picked tokens masked and scores in fp32.
    """

    name = "kcenter"
    paper = "DivPrune, 2503.02175"
    signal = "diversity of the features"
    cost = "N·K"

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`."""
        return pool[maxmin(tokens.features[pool], k)]

    def select_each(self, pools: Sequence[Pool]) -> list[Tensor]:
        """See `Selector.select_each`."""
        features = [pool.tokens.features[pool.members] for pool in pools]
        picks = maxmin_each(features, [pool.k for pool in pools])
        return [pool.members[own] for pool, own in zip(pools, picks, strict=True)]
