"""Dropped tokens join the kept token that they resemble most."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import Reduction, VisualTokens
from vtc.core.validation import check_number
from vtc.stages.base import Merger
from vtc.stages.ops import nearest_rows, unit_rows


@dataclass(frozen=True)
class Mean(Merger):
    """Each dropped candidate is averaged into its nearest kept candidate of the same unit, by cosine similarity.

    A mean weighted by size (ToMe, arXiv 2210.09461, section 3), so that outputs keep the norm of tokens. Where a
    unit keeps nothing, its tokens are dropped: nothing is folded into another tile or frame.

    Attributes:
        least: the cosine, in [-1, 1], below which a token is dropped and joins nothing; None: all join.
    """

    least: float | None = None

    name = "mean"
    paper = "ToMe, 2210.09461"
    signal = "similarity of the features"
    cost = "N·K"

    def __post_init__(self) -> None:
        if self.least is not None:
            object.__setattr__(self, "least", check_number("least", self.least, -1, 1))

    def merge(self, tokens: VisualTokens, anchor: Tensor) -> Reduction:
        """See `Merger.merge`. Structural tokens stay as they are."""
        device = tokens.features.device
        reduction = Reduction.pruning(anchor, len(tokens))
        unit, structural = tokens.layout.unit.to(device), tokens.layout.structural.to(device)
        rows = unit_rows(tokens.features)
        candidate_anchor = ~structural[anchor]
        for u in range(len(tokens.layout.grids)):
            places = torch.nonzero(candidate_anchor & (unit[anchor] == u)).flatten()
            loose = torch.nonzero((reduction.assign < 0) & ~structural & (unit == u)).flatten()
            if len(places) and len(loose):
                into = places[nearest_rows(rows[loose], rows[anchor[places]])]
                if self.least is not None:
                    like = (rows[loose] * rows[anchor[into]]).sum(dim=1).round(decimals=6)
                    into = into.masked_fill(like < self.least, -1)
                reduction.assign[loose] = into
        return reduction
