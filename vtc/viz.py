"""Pictures of a reduction: which cells of a picture the language model still gets."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .recipes import Recipe
from .report import ItemReport, Report
from .tokens import Reduction
from .view import view

# Okabe and Ito's palette, which the colour-blind can tell apart. Kept cells are orange, merged regions take the others.
KEPT = (230, 159, 0)
REGIONS = ((86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))

Color = tuple[int, int, int]

__all__ = ["KEPT", "REGIONS", "at_last_layer", "draw", "marked", "mosaic", "overlay", "view"]


def draw(picture: Image.Image, image_processor: Any, report: Report, recipe: Recipe) -> Image.Image:
    """The overlay of the report's first item over what the encoder saw of `picture`, with the count under it.

    Of a picture in tiles, the tiles are drawn where they lie in it, and the thumbnail beside them. Where tokens left
    inside the language model, those that its last layer is given count as kept.

    Raises:
        ValueError: an image processor whose steps are not known, or a report without items.
    """
    if not report.items:
        raise ValueError("report holds no item to draw; draw a call that had a picture")
    item = at_last_layer(report)[0]
    caption = f"{recipe.name}, keep {recipe.keep}: {report.after} of {report.before} tokens"
    if report.decoder is not None and report.decoder.kept:
        last = max(report.decoder.kept)
        caption += f", {report.decoder.layers[last]} from layer {last}"
    seen = view(picture, image_processor)
    return mosaic(seen, item, caption) if len(item.units) > 1 else overlay(seen, item, caption)


def at_last_layer(report: Report) -> tuple[ItemReport, ...]:
    """The report's items as the last layer of the language model is given them."""
    trace = report.decoder
    if trace is None:
        return report.items
    found = []
    for number, item in enumerate(report.items):
        reduction = item.reduction
        for layer, kept in trace.kept.items():
            if len(reduction):
                cut = _cut(reduction.anchor, item.layout.structural, kept[number], trace.folds[layer][number])
                reduction = cut.after(reduction)
        found.append(ItemReport.of(item.modality, item.row, item.layout, reduction))
    return tuple(found)


def _cut(tokens: Tensor, structural: Tensor, kept: Tensor, fold: Reduction | None) -> Reduction:
    """What a cut makes of `tokens` `[K]` of a layout: `structural` `[N]` ones leave with the last candidate."""
    fixed = structural[tokens]
    stays = torch.isin(tokens, kept) | (fixed & (len(kept) > 0))
    cut = Reduction.pruning(stays.nonzero().flatten(), len(tokens))
    if fold is None:
        return cut
    free = (~fixed).nonzero().flatten()
    assign, weight = cut.assign.clone(), cut.weight.clone()
    assign[free] = cut.assign[free[fold.anchor]][fold.assign.clamp_min(0)].masked_fill(fold.assign < 0, -1)
    weight[free] = fold.weight.to(weight.dtype)
    return Reduction(cut.anchor, assign, weight)


def overlay(picture: Image.Image, item: ItemReport, caption: str = "", *, unit: int = 0, frame: int = 0) -> Image.Image:
    """Draws what was kept of `item` over `picture`.

    Kept cells stay clear inside an outline, dropped ones are dimmed and lose their colour. Where tokens were merged, a
    dropped cell is tinted with the outline of the cell it went into, and lines part the regions.

    Args:
        picture: what the encoder saw, as `view(picture, image_processor)` gives it.
        item: one of `model.vtc.report.items`.
        caption: a line to put under the picture.
        unit, frame: which unit of the item (tile, frame, clip) and which frame of it to draw.

    Raises:
        ValueError: no such unit or frame.
    """
    drawn = marked(picture, item, unit, frame)
    return _with_caption(drawn, caption, merged=item.reduction.merges)


def mosaic(picture: Image.Image, item: ItemReport, caption: str = "") -> Image.Image:
    """Draws what was kept of an item of tiles: each tile over its part of `picture`, a thumbnail at their right.

    Args:
        picture: the whole picture that the tiles were cut from.
        item: one of `model.vtc.report.items`.
        caption: a line to put under the picture.
    """
    tiles, shown = picture.convert("RGB"), []
    for unit, (part, box) in enumerate(zip(item.units, item.layout.boxes, strict=True)):
        if part.kind == "thumbnail":
            shown.append(marked(picture, item, unit, 0))
            continue
        top, left, bottom, right = (
            round(share * side) for share, side in zip(box, picture.size[::-1] * 2, strict=True)
        )
        if bottom - top >= part.grid[1] and right - left >= part.grid[2]:
            tiles.paste(marked(picture.crop((left, top, right, bottom)), item, unit, 0), (left, top))
    out = Image.new("RGB", (sum(p.width for p in (tiles, *shown)) + 8 * len(shown), tiles.height), "white")
    for number, part_drawn in enumerate((tiles, *shown)):
        out.paste(part_drawn, (number * (tiles.width + 8), 0))
    return _with_caption(out, caption, merged=item.reduction.merges)


def marked(picture: Image.Image, item: ItemReport, unit: int, frame: int) -> Image.Image:
    """`picture` with the marks of one unit of `item` all over it, as `overlay` draws them, and nothing under it.

    Raises:
        ValueError: no such unit or frame.
    """
    owner, kept = _cells(item, unit, frame)
    colors = _colors(owner) if item.reduction.merges else {}
    pixels = np.asarray(picture.convert("RGB"))
    rows, columns = _edges(picture.height, owner.shape[0]), _edges(picture.width, owner.shape[1])
    drawn = _dimmed(pixels, owner, kept, colors, rows, columns)
    out = Image.fromarray(drawn)
    _draw_grid(out, rows, columns)
    if colors:
        _draw_borders(out, owner, rows, columns)
    _draw_outlines(out, owner, kept, colors, rows, columns)
    return out


def _cells(item: ItemReport, unit: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """`[H, W]` the output each cell went into (-1: dropped), and `[H, W]` whether the cell itself was kept."""
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
    cells = item.units[unit].cells
    _, y, x = cells[cells[:, 0] == frame].T.numpy()
    kept[y, x] = True
    return owner, kept


def _edges(pixels: int, cells: int) -> list[int]:
    return [round(i * pixels / cells) for i in range(cells + 1)]


def _colors(owner: np.ndarray) -> dict[int, Color]:
    """A colour for each output, so that regions side by side differ wherever the palette allows it."""
    beside: dict[int, set[int]] = {int(region): set() for region in np.unique(owner) if region >= 0}
    for one, other in ((owner[:, :-1], owner[:, 1:]), (owner[:-1], owner[1:])):
        for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
            if a != b and a >= 0 and b >= 0:
                beside[a].add(b)
                beside[b].add(a)
    chosen: dict[int, int] = {}
    used: Counter[int] = Counter()
    for region in sorted(beside, key=lambda r: (-len(beside[r]), r)):
        taken = Counter(chosen[other] for other in beside[region] if other in chosen)
        chosen[region] = min(range(len(REGIONS)), key=lambda c: (taken[c], used[c], c))
        used[chosen[region]] += 1
    return {region: REGIONS[color] for region, color in chosen.items()}


def _dimmed(
    pixels: np.ndarray,
    owner: np.ndarray,
    kept: np.ndarray,
    colors: dict[int, Color],
    rows: list[int],
    columns: list[int],
) -> np.ndarray:
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    faint = np.repeat((grey * 0.45 + 14)[..., None], 3, axis=2)
    out = pixels.copy()
    for y, x in np.argwhere(~kept).tolist():
        cell = (slice(rows[y], rows[y + 1]), slice(columns[x], columns[x + 1]))
        color = colors.get(int(owner[y, x]))
        out[cell] = faint[cell] if color is None else faint[cell] * 0.7 + np.array(color) * 0.3
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


def _draw_outlines(
    out: Image.Image,
    owner: np.ndarray,
    kept: np.ndarray,
    colors: dict[int, Color],
    rows: list[int],
    columns: list[int],
) -> None:
    pen = ImageDraw.Draw(out)
    smallest = min(b - a for edges in (rows, columns) for a, b in pairwise(edges))
    width = max(1, min(3, smallest // 8))
    for y, x in np.argwhere(kept).tolist():
        box = (columns[x], rows[y], max(columns[x + 1] - 1, columns[x]), max(rows[y + 1] - 1, rows[y]))
        if smallest >= 16:  # a dark line inside keeps the outline readable on bright pictures
            inner = (box[0] + width, box[1] + width, box[2] - width, box[3] - width)
            pen.rectangle(inner, outline=(20, 20, 20))
        pen.rectangle(box, outline=colors.get(int(owner[y, x]), KEPT), width=width)


def _with_caption(drawn: Image.Image, caption: str, *, merged: bool) -> Image.Image:
    """`drawn` above a strip with the caption and what the marks mean."""
    font = ImageFont.load_default(size=15)
    marks = [("kept", True), ("merged into a kept one" if merged else "dropped", False)]
    out = Image.new("RGB", (drawn.width, drawn.height + 30), "white")
    out.paste(drawn, (0, 0))
    pen = ImageDraw.Draw(out)
    middle = drawn.height + 15
    pen.text((8, middle), caption, fill=(30, 30, 30), font=font, anchor="lm")
    x = drawn.width - 8.0
    room = 20 + pen.textlength(caption, font=font)
    if x - sum(pen.textlength(text, font=font) + 36 for text, _ in marks) < room:
        return out
    for text, kept in reversed(marks):
        x -= pen.textlength(text, font=font)
        pen.text((x, middle), text, fill=(30, 30, 30), font=font, anchor="lm")
        x -= 18
        box = (x, middle - 6, x + 12, middle + 6)
        line = REGIONS[0] if merged else KEPT
        pen.rectangle(box, fill=(225, 225, 225) if kept else (90, 90, 90), outline=line if kept else None, width=2)
        x -= 18
    return out
