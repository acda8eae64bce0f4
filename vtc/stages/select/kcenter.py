"""The tokens that leave no other far away: greedy max-min diversity."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.stages.base import Selector

from .maxmin import maxmin


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
