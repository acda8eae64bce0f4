"""Images in tiles, for the stages that care where tokens stand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vtc import Layout, VisualTokens


@dataclass(frozen=True)
class Tiling:
    """An image cut into tiles of `tile` cells, with a thumbnail of `view` cells before them.

    Attributes:
        rows, columns: of tiles.
        pad: cells of the canvas, above and left, and as many below and right, that the image does not reach. A tile
            keeps the cells that the image touches.
        cut: whether tiles end at the image's border, and their cells are narrower, or reach beyond it.
    """

    rows: int
    columns: int
    tile: tuple[int, int] = (6, 8)
    view: tuple[int, int] = (8, 6)
    pad: tuple[float, float] = (0.0, 0.0)
    cut: bool = True

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}-pad{self.pad[0]}-{self.pad[1]}{'' if self.cut else '-beyond'}"

    @property
    def layout(self) -> Layout:
        """The thumbnail is unit 0; tiles follow row by row."""
        parts = [Layout.of_grid(*self.view, kind="thumbnail")]
        for row in range(self.rows):
            for column in range(self.columns):
                top, bottom, height = self._span(row, 0)
                left, right, width = self._span(column, 1)
                parts.append(Layout.of_grid(height, width, kind="tile", box=(top, left, bottom, right)))
        return Layout.join(parts)

    def _span(self, place: int, axis: int) -> tuple[float, float, int]:
        size, pad = self.tile[axis], self.pad[axis]
        length = (self.rows, self.columns)[axis] * size - 2 * pad
        cells = [c for c in range(place * size, (place + 1) * size) if c + 1 > pad and c < length + pad]
        start, end = cells[0] - pad, cells[-1] + 1 - pad
        start, end = (max(start, 0), min(end, length)) if self.cut else (start, end)
        return start / length, end / length, len(cells)


SHAPES = ((1, 2), (2, 1), (2, 2), (2, 3), (3, 2))
TILINGS = [Tiling(*shape, pad=pad) for shape in SHAPES for pad in ((0, 0), (2, 0), (0, 2.5), (1.3, 0.7))]
TILINGS += [Tiling(*shape, pad=(1.3, 0.7), cut=False) for shape in SHAPES]


def transposed(layout: Layout) -> Layout:
    """The layout with every box mirrored at the diagonal: a wrong geometry that checks must find."""
    boxes = tuple((left, top, right, bottom) for top, left, bottom, right in layout.boxes)
    return replace(layout, boxes=boxes)


def with_logits(layout: Layout, thumbnail: Tensor, others: Tensor | None = None) -> VisualTokens:
    """An item of `layout` whose thumbnail, unit 0, has the logits `[height, width]`; the others have 0, or `others`."""
    logits = torch.zeros(len(layout)) if others is None else others.clone()
    logits[layout.unit == 0] = thumbnail.flatten().float()
    return VisualTokens(torch.ones(len(layout), 2), layout, {"attention_logits": logits})


def spot(view: tuple[int, int], y: int, x: int, height: float = 1000.0) -> Tensor:
    """A map of zeros with one cell of `height`."""
    values = torch.zeros(view)
    values[y, x] = height
    return values
