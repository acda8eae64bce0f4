"""A unit's grid cut into exactly k rectangles: the geometry that `Grid` selects by and `Area` merges by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from vtc.core.tokens import Layout


@dataclass(frozen=True)
class Pieces:
    """The rectangles of one unit.

    Attributes:
        token: `[n]` int64, the unit's candidates, ascending.
        piece: `[n]` int64, the rectangle that each lies in.
        anchor: `[k]` int64, the token nearest each rectangle's centre; the lower index of equals.
    """

    token: Tensor
    piece: Tensor
    anchor: Tensor


def lattice(grid: tuple[int, int, int], k: int) -> Tensor:
    """Return which of `k` pieces each cell of `grid` (t, h, w) lies in: `[t * h * w]` int64 in raster order.

    A frame is cut into bands of whole rows, and each band into rectangles, as near to square as whole numbers allow;
    24 x 24 cells and k = 144 give the plain 2 x 2 pooling. No piece straddles two frames: they share `k` evenly; where
    there are fewer pieces than frames, each is a run of whole frames.

    Args:
        grid: frames, rows, columns.
        k: between 1 and the number of cells.
    """
    frames, height, width = grid
    if k < frames:
        return _places(frames, k).repeat_interleave(height * width)
    starts = [frame * k // frames for frame in range(frames + 1)]
    return torch.cat([start + _frame(height, width, end - start) for start, end in pairwise(starts)])


def _places(length: int, parts: int) -> Tensor:
    """Return which of `parts` even stretches each of `length` places lies in, by its middle: `[length]` int64."""
    return (2 * torch.arange(length) + 1) * parts // (2 * length)


def _frame(height: int, width: int, k: int) -> Tensor:
    """`lattice` of one frame."""
    bands = _bands(height, width, k)
    edges = torch.arange(bands + 1) * k // bands
    band = _places(height, bands)
    start, count = edges[band, None], edges.diff()[band, None]
    return (start + (2 * torch.arange(width) + 1) * count // (2 * width)).flatten()


def _bands(height: int, width: int, k: int) -> int:
    """The number of bands whose rectangles are nearest to square; the lower of equals."""
    # No band can hold more rectangles than there are columns, nor be thinner than a row.
    fitting = range(-(-k // width), min(height, k) + 1)
    return min(fitting, key=lambda bands: abs(math.log(height * k / (width * bands**2))))


def unit_pieces(layout: Layout, unit: int, k: int) -> Pieces:
    """The `k` rectangles of `unit`, on the CPU.

    Raises:
        ValueError: the unit's candidates do not fill its grid.
    """
    token = torch.nonzero(~layout.structural & (layout.unit == unit)).flatten()
    grid = frames, height, width = layout.grids[unit]
    cell = layout.cell[token]
    place = (cell[:, 0] * height + cell[:, 1]) * width + cell[:, 2]
    if not torch.equal(place.sort().values, torch.arange(frames * height * width)):
        raise ValueError(
            f"unit {unit} has {len(token)} candidates that do not fill its grid {grid} one by one, so it cannot be cut "
            "into rectangles; use 'stride' for an even cover"
        )
    piece = lattice(grid, k)[place]
    return Pieces(token, piece, token[_central(cell, piece, k)])


def _central(cell: Tensor, piece: Tensor, k: int) -> Tensor:
    """For each piece the place of the cell nearest its centre, the first of equals: `[k]` int64."""
    index = piece[:, None].expand_as(cell)
    low = torch.zeros(k, 3, dtype=torch.int64).scatter_reduce(0, index, cell, "amin", include_self=False)
    high = torch.zeros(k, 3, dtype=torch.int64).scatter_reduce(0, index, cell, "amax", include_self=False)
    # Twice the offset from the centre: whole numbers, so that equal distances are equal.
    distance = (2 * cell - (low + high)[piece]).square().sum(dim=1)
    rank = distance * len(cell) + torch.arange(len(cell))
    best = torch.zeros(k, dtype=torch.int64).scatter_reduce(0, piece, rank, "amin", include_self=False)
    return best % len(cell)
