"""Layouts of images whose rows of tokens end in a token of their own."""

from __future__ import annotations

from dataclasses import replace

import torch

from vtc.core.tokens import Box, Layout

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


def in_rows(height: int, width: int, *, kind: str = "image", box: Box = WHOLE) -> Layout:
    """The layout of one unit of `height x width` candidates in raster order, each row with a newline behind it.

    Args:
        height, width: in tokens.
        kind, box: see `Layout`.
    """
    whole = Layout.of_grid(height, width + 1, kind=kind, box=box)
    newline = whole.cell[:, 2] == width
    cell = whole.cell.masked_fill(newline[:, None], -1)
    return replace(whole, cell=cell, structural=newline, grids=((1, height, width),))


def with_separator(layout: Layout) -> Layout:
    """`layout` with one structural token behind it, which belongs to the last unit."""
    return replace(
        layout,
        unit=torch.cat([layout.unit, layout.unit[-1:]]),
        cell=torch.cat([layout.cell, layout.cell.new_full((1, 3), -1)]),
        structural=torch.cat([layout.structural, torch.ones(1, dtype=torch.bool)]),
    )
