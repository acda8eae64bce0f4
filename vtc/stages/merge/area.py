"""Dropped tokens join the kept token in whose rectangle they lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import Reduction, VisualTokens
from vtc.stages.base import Merger
from vtc.stages.grid_partition import unit_pieces


@dataclass(frozen=True)
class Area(Merger):
    """Each of the rectangles that `Grid` cuts a unit into becomes the mean of its tokens: 2-D average pooling.

    Where a unit keeps nothing, its tokens are dropped: nothing is folded into another tile or frame.
    """

    name = "area"
    signal = "place in the image"

    def merge(self, tokens: VisualTokens, anchor: Tensor) -> Reduction:
        """See `Merger.merge`. Structural tokens stay as they are.

        Raises:
            ValueError: the anchors are not those of `Grid`.
        """
        layout, kept = tokens.layout, anchor.cpu()
        free = kept[~layout.structural[kept]]
        reduction = Reduction.pruning(kept, len(tokens))
        for unit in layout.unit[free].unique().tolist():
            own = free[layout.unit[free] == unit]
            cut = unit_pieces(layout, unit, len(own))
            if not torch.equal(cut.anchor.sort().values, own):
                raise ValueError(
                    f"anchor holds tokens {own[:8].tolist()} ... of unit {unit}, which are not the middles of "
                    f"{len(own)} even rectangles; 'area' goes with the selector 'grid' only, use 'mean' with others"
                )
            reduction.assign[cut.token] = reduction.assign[cut.anchor[cut.piece]]
        return reduction.to(tokens.features.device)
