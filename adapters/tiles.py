"""Where the tokens of an image stand that is fitted into a canvas of tiles, padded, and encoded tile by tile.

The tokens of all tiles make one raster over the canvas; rows or columns of padding are cut off, and each row ends in a
newline token. A thumbnail of the whole image, squashed into one tile, comes first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import Box, Layout

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Tile:
    """One tile of the encoder: `size` pixels a side, cut into `side` tokens of `patch` pixels.

    Where `size` is no multiple of `patch`, the encoder leaves the last pixels out.
    """

    size: int
    side: int
    patch: int

    @property
    def share(self) -> float:
        """The share of its height that the tokens cover."""
        return self.side * self.patch / self.size


def surviving(image: Size, canvas: Size) -> tuple[range, range]:
    """The rows and columns of a canvas of tokens that are not cut off as padding of an image fitted into it.

    The cut is symmetric and in whole tokens, so up to half a token of padding may stay, or of the image go.

    Args:
        image: in pixels.
        canvas: in tokens.
    """
    (height, width), (rows, columns) = image, canvas
    if width / height > columns / rows:
        cut = (rows - int(round(height * (columns / width), 7))) // 2
        return range(cut, rows - cut), range(columns)
    cut = (columns - int(round(width * (rows / height), 7))) // 2
    return range(rows), range(cut, columns - cut)


def placed(image: Size, canvas: Size) -> tuple[range, range]:
    """The rows and columns of a canvas of pixels that an image lies in, as the image processors fit and pad it."""
    down, across = canvas[0] / image[0], canvas[1] / image[1]
    height, width = canvas
    if across < down:
        height = min(math.ceil(image[0] * across), height)
    else:
        width = min(math.ceil(image[1] * down), width)
    top, left = (canvas[0] - height) // 2, (canvas[1] - width) // 2
    return range(top, top + height), range(left, left + width)


def _axis(tile: Tile, kept: range, count: int, pixels: range) -> list[tuple[int, float, float]]:
    """One axis of a canvas: of each tile that has tokens, how many, and where they begin and end in the image.

    Args:
        tile: of the canvas.
        kept: which tokens of the axis survive.
        count: how many tokens stand for them in the end; each belongs to the tile under its middle.
        pixels: where the image lies on the axis.
    """
    step = len(kept) / max(count, 1)
    middles = [(2 * kept.start * count + (2 * i + 1) * len(kept)) // (2 * count * tile.side) for i in range(count)]
    found = []
    for t in dict.fromkeys(middles):
        first, own = middles.index(t), middles.count(t)
        edges = (kept.start + (first + n) * step - t * tile.side for n in (0, own))
        low, high = ((t * tile.size + edge * tile.patch - pixels.start) / len(pixels) for edge in edges)
        found.append((own, low, high))
    return found


def tiled(tile: Tile, image: Size, canvas: Size, raster: Size | None = None) -> Layout:
    """The layout of a thumbnail and the tiles of a canvas, in the order in which the models pack them.

    Units are the thumbnail, then the tiles that have tokens, in raster order. A newline belongs to the last tile of its
    row, or to the thumbnail where no column survives. Boxes reach beyond 0 and 1 where tokens see padding.

    Args:
        tile: the encoder's.
        image: in pixels.
        canvas: in tiles.
        raster: the size, in tokens, to which the surviving tokens are shrunk; by default they are not.
    """
    rows, columns = surviving(image, (canvas[0] * tile.side, canvas[1] * tile.side))
    down, across = placed(image, (canvas[0] * tile.size, canvas[1] * tile.size))
    height, width = raster or (len(rows), len(columns))
    ys, xs = _axis(tile, rows, height, down), _axis(tile, columns, width, across)
    whole = Layout.of_grid(tile.side, tile.side, kind="thumbnail", box=(0.0, 0.0, tile.share, tile.share))
    y, x = (torch.tensor([count for count, _, _ in parts], dtype=torch.int64) for parts in (ys, xs))
    unit = 1 + torch.arange(len(y)).repeat_interleave(y)[:, None] * len(x) + torch.arange(len(x)).repeat_interleave(x)
    cell = torch.stack([torch.zeros_like(unit), *torch.meshgrid(_within(y), _within(x), indexing="ij")], dim=-1)
    newline = unit[:, -1:] if width else unit.new_zeros(height, 1)
    ends = torch.arange(width + 1).expand(height, -1) == width
    tiles = [(a, b) for a in ys for b in xs]
    boxes: list[Box] = [(top, left, bottom, right) for (_, top, bottom), (_, left, right) in tiles]
    return Layout(
        unit=torch.cat([whole.unit, torch.cat([unit, newline], dim=1).flatten()]),
        cell=torch.cat([whole.cell, torch.cat([cell, cell.new_full((height, 1, 3), -1)], dim=1).flatten(0, 1)]),
        structural=torch.cat([whole.structural, ends.flatten()]),
        grids=(*whole.grids, *((1, a[0], b[0]) for a, b in tiles)),
        kinds=(*whole.kinds, *["tile"] * len(tiles)),
        boxes=(*whole.boxes, *boxes),
    )


def _within(counts: Tensor) -> Tensor:
    """Each token's place in its own tile."""
    starts = counts.cumsum(0) - counts
    return torch.arange(int(counts.sum())) - starts.repeat_interleave(counts)
