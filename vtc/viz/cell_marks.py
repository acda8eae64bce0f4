"""The marks of a reduction over one unit of an item: kept cells clear, dropped ones dim, merged ones tinted."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from vtc.reduction.report import ItemReport

from .colors import (
    HATCH,
    KEPT,
    TINT,
    Color,
    region_colors,
)
from .legend import (
    DROPPED,
    HATCHED,
    KEPT_MARK,
    MERGED,
    REGION_MARK,
    Mark,
)


def marked(
    image: Image.Image, item: ItemReport, unit: int, frame: int, colors: Mapping[int, Color] | None = None
) -> Image.Image:
    """`image` with the marks of one unit of `item` all over it, as `overlay` draws them, and nothing under it.

    Args:
        colors: of merged regions, see `colors_of`; by default those of this unit's frame are chosen by themselves.

    Raises:
        ValueError: no such unit or frame.
    """
    owner, kept = cells(item, unit, frame)
    if colors is None:
        colors = region_colors([owner]) if item.reduction.merges else {}
    pixels = np.asarray(image.convert("RGB"))
    rows, columns = _edges(image.height, owner.shape[0]), _edges(image.width, owner.shape[1])
    out = Image.fromarray(_dimmed(pixels, owner, kept, colors, rows, columns))
    _draw_grid(out, rows, columns)
    if colors:
        _draw_borders(out, owner, rows, columns)
        _draw_hatches(out, owner, rows, columns)
    _draw_outlines(out, owner, kept, colors, rows, columns)
    return out


def colors_of(item: ItemReport) -> dict[int, Color]:
    """The colours of all regions of an item that was merged, one for each over all its units; else none."""
    if not item.reduction.merges:
        return {}
    places = [(unit, frame) for unit, part in enumerate(item.units) for frame in range(part.grid[0])]
    return region_colors(cells(item, *place)[0] for place in places)


def marks_of(item: ItemReport) -> tuple[Mark, ...]:
    """Return the legend entries for the marks that occur in `item`."""
    candidates = ~item.layout.structural
    lost = bool((item.reduction.assign[candidates] < 0).any())
    if item.reduction.merges:
        return (REGION_MARK, MERGED, HATCHED) if lost else (REGION_MARK, MERGED)
    return (KEPT_MARK, DROPPED)


def cells(item: ItemReport, unit: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """`[H, W]` the output each cell went into (-1: dropped), and `[H, W]` whether the cell itself was kept.

    Raises:
        ValueError: no such unit or frame.
    """
    if not 0 <= unit < len(item.units):
        raise ValueError(f"unit={unit}: the item has {len(item.units)} units, numbered from 0")
    frames, height, width = item.units[unit].grid
    if not 0 <= frame < frames:
        raise ValueError(f"frame={frame}: unit {unit} has {frames} frames, numbered from 0")
    layout = item.layout
    here = (layout.unit == unit) & ~layout.structural & (layout.cell[:, 0] == frame)
    owner, kept = np.full((height, width), -1), np.zeros((height, width), dtype=bool)
    y, x = layout.cell[here, 1].numpy(), layout.cell[here, 2].numpy()
    owner[y, x] = item.reduction.assign[here].numpy()
    found = item.units[unit].cells
    _, y, x = found[found[:, 0] == frame].T.numpy()
    kept[y, x] = True
    return owner, kept


def _edges(pixels: int, cells: int) -> list[int]:
    return [round(i * pixels / cells) for i in range(cells + 1)]


def _dimmed(
    pixels: np.ndarray,
    owner: np.ndarray,
    kept: np.ndarray,
    colors: Mapping[int, Color],
    rows: list[int],
    columns: list[int],
) -> np.ndarray:
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    faint = np.repeat((grey * 0.45 + 14)[..., None], 3, axis=2)
    out = pixels.copy()
    for y, x in np.argwhere(~kept).tolist():
        cell = (slice(rows[y], rows[y + 1]), slice(columns[x], columns[x + 1]))
        color = colors.get(int(owner[y, x]))
        out[cell] = faint[cell] if color is None else faint[cell] * (1 - TINT) + np.array(color) * TINT
    return out


def _draw_grid(out: Image.Image, rows: list[int], columns: list[int]) -> None:
    pen = ImageDraw.Draw(out, "RGBA")
    line = (255, 255, 255, 40)
    for y in rows[1:-1]:
        pen.line([(0, y), (out.width, y)], fill=line)
    for x in columns[1:-1]:
        pen.line([(x, 0), (x, out.height)], fill=line)


def _draw_borders(out: Image.Image, owner: np.ndarray, rows: list[int], columns: list[int]) -> None:
    """Lines where two merged regions meet."""
    pen = ImageDraw.Draw(out)
    for y, x in np.argwhere(owner[:, :-1] != owner[:, 1:]).tolist():
        pen.line([(columns[x + 1], rows[y]), (columns[x + 1], rows[y + 1])], fill=(235, 235, 235))
    for y, x in np.argwhere(owner[:-1] != owner[1:]).tolist():
        pen.line([(columns[x], rows[y + 1]), (columns[x + 1], rows[y + 1])], fill=(235, 235, 235))


def _draw_hatches(out: Image.Image, owner: np.ndarray, rows: list[int], columns: list[int]) -> None:
    """A line across each dropped cell beside merged ones: without it a greyish tint could be taken for no tint."""
    pen = ImageDraw.Draw(out)
    for y, x in np.argwhere(owner < 0).tolist():
        left, right = columns[x], columns[x + 1] - 1
        pen.line([(left + (right - left) // 4, rows[y + 1] - 1), (right, rows[y] + (right - left) // 4)], fill=HATCH)


def _draw_outlines(
    out: Image.Image,
    owner: np.ndarray,
    kept: np.ndarray,
    colors: Mapping[int, Color],
    rows: list[int],
    columns: list[int],
) -> None:
    pen = ImageDraw.Draw(out)
    smallest = min(b - a for edges in (rows, columns) for a, b in pairwise(edges))
    width = max(1, min(3, smallest // 8))
    for y, x in np.argwhere(kept).tolist():
        box = (columns[x], rows[y], max(columns[x + 1] - 1, columns[x]), max(rows[y + 1] - 1, rows[y]))
        if smallest >= 16:  # a dark line inside keeps the outline readable on bright images
            inner = (box[0] + width, box[1] + width, box[2] - width, box[3] - width)
            pen.rectangle(inner, outline=(20, 20, 20))
        pen.rectangle(box, outline=colors.get(int(owner[y, x]), KEPT), width=width)
