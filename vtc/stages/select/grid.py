"""Tokens on an even lattice: the cheapest cover in two dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.budget import share
from vtc.core.tokens import VisualTokens
from vtc.stages.base import Selector
from vtc.stages.grid_partition import unit_pieces


@dataclass(frozen=True)
class Grid(Selector):
    """The middle token of each of `k` rectangles, as near to square and as even as whole numbers allow.

    Any `k` works; with `Area` the rectangles are averaged, which is 2-D average pooling at any exact count. A pool of
    several units shares `k` over them in proportion to their tokens.
    """

    name = "grid"
    signal = "place in the image"

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`.

        Raises:
            ValueError: the pool is not made of whole units, or a unit's candidates do not fill its grid.
        """
        layout = tokens.layout
        own = torch.bincount(layout.unit[pool.cpu()], minlength=len(layout.grids)).tolist()
        units = [unit for unit, count in enumerate(own) if count]
        sizes = [own[unit] for unit in units]
        if sizes != [layout.candidates[unit] for unit in units]:
            raise ValueError(
                f"pool holds {sizes} tokens of units {units}, which have {[layout.candidates[u] for u in units]} "
                "candidates; 'grid' cuts whole units, use 'stride' for an even cover of a part"
            )
        counts = share(k, sizes, caps=sizes)
        anchors = [unit_pieces(layout, u, count).anchor for u, count in zip(units, counts, strict=True) if count]
        return torch.cat(anchors).sort().values.to(pool.device)
