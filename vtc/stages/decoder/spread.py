"""Even covers of tokens that may no longer fill their grids."""

from __future__ import annotations

import torch
from torch import Tensor

from vtc.core.budget import share
from vtc.core.tokens import Layout
from vtc.stages.grid_partition import unit_pieces


def evenly(layout: Layout, index: Tensor, count: int) -> Tensor:
    """`count` places of `index`, spread evenly over the item's image or video.

    Each unit gets tokens in proportion to those it still has. Where all of its cells are still here, it is cut into
    rectangles and the middle of each stays; else the even points of that lattice each take the nearest free token.

    Args:
        layout: of the item.
        index: `[N]` int64, its tokens that are still here, ascending, on the CPU.
        count: 1 <= count <= N.

    Returns:
        `[count]` int64 places among `index`, ascending, on the CPU.
    """
    unit = layout.unit[index]
    sizes = torch.bincount(unit, minlength=len(layout.grids)).tolist()
    counts = share(count, sizes, caps=sizes)
    found = [_in_unit(layout, index, u, k) for u, k in enumerate(counts) if k]
    return torch.cat(found).sort().values


def _in_unit(layout: Layout, index: Tensor, unit: int, count: int) -> Tensor:
    here = torch.nonzero(layout.unit[index] == unit).flatten()
    if count == len(here):
        return here
    whole = layout.candidates[unit]
    anchors = unit_pieces(layout, unit, count).anchor
    if len(here) == whole:
        return torch.searchsorted(index, anchors)
    cell = layout.cell.double()
    # Frames are further apart than any two cells of one frame, so that a point takes from its own frame first.
    far = float(sum(layout.grids[unit][1:]))
    scale = torch.tensor([far, 1.0, 1.0], dtype=torch.float64)
    distance = torch.cdist(cell[anchors] * scale, cell[index[here]] * scale)
    return here[_matched(distance)]


def _matched(distance: Tensor) -> Tensor:
    """Return each row of `distance` `[k, n]` a column of its own, the nearest pair first; ties to the lower place.

    Pairs that are each other's nearest among the free ones are taken together: the same answer in a few rounds.
    """
    rows, columns = distance.shape
    order = torch.sort(distance.flatten(), stable=True).indices
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank = rank.view(rows, columns)
    taken = torch.full((rows,), -1)
    while bool((taken < 0).any()):
        best, column = rank.min(dim=1)
        row = torch.nonzero((taken < 0) & (best == rank.min(dim=0).values[column])).flatten()
        taken[row] = column[row]
        rank[row], rank[:, column[row]] = rank.numel(), rank.numel()
    return taken.sort().values
