"""Images of a reduction: which cells of an image the language model still gets."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vtc.core.tokens import Reduction
from vtc.recipes.composition import Recipe
from vtc.reduction.report import ItemReport, Report

from .cell_marks import colors_of, marked, marks_of
from .legend import captioned
from .visible_crop import view

LARGEST = 2048
"""Pixels of the longer side above which an image is scaled down before it is drawn on."""


def draw(image: Image.Image, image_processor: Any, report: Report, recipe: Recipe) -> Image.Image:
    """The overlay of the report's first item over what the encoder saw of `image`, with the count under it.

    Of an image in tiles, the tiles are drawn where they lie in it, and the thumbnail beside them. Where tokens left
    inside the language model, those that its last layer is given count as kept.

    Raises:
        ValueError: an image processor whose steps are not known, or a report without items.
    """
    item, seen = _first(report), view(image, image_processor)
    text = caption(report, recipe)
    return mosaic(seen, item, text) if len(item.units) > 1 else overlay(seen, item, text)


def pair(image: Image.Image, image_processor: Any, report: Report) -> tuple[Image.Image, Image.Image]:
    """Return the crop of `image` that the encoder saw, plain and with marks and no strip: two images of one size.

    Raises:
        ValueError: see `draw`.
    """
    item, seen = _first(report), view(image, image_processor)
    after = _tiles(seen, item) if len(item.units) > 1 else marked(seen, item, 0, 0)
    before = Image.new("RGB", after.size, "white")
    before.paste(seen, (0, 0))
    return before, after


def before_after(image: Image.Image, image_processor: Any, report: Report, recipe: Recipe) -> Image.Image:
    """Draw the crop of `image` that the encoder saw, and beside it (under it, if wide) the kept cells, with a legend.

    Raises:
        ValueError: see `draw`.
    """
    _, after = pair(image, image_processor, report)
    seen = view(image, image_processor)
    wide = seen.width > seen.height * 1.5
    size = (max(seen.width, after.width), seen.height + 8 + after.height)
    out = Image.new("RGB", size if wide else (seen.width + 8 + after.width, max(seen.height, after.height)), "white")
    out.paste(seen, (0, 0))
    out.paste(after, (0, seen.height + 8) if wide else (seen.width + 8, 0))
    return captioned(_bounded(out), f"before and after; {caption(report, recipe)}", marks_of(_first(report)))


def caption(report: Report, recipe: Recipe) -> str:
    """The recipe and the counts of a report in one line; of several items, those of the first, which is drawn."""
    if len(report.items) > 1:
        first = report.items[0]
        kept, all_of_it = (count + first.structural for count in (first.after, first.before))
        named = f"{recipe.name}, keep {recipe.keep}"
        return f"{named}: {kept} of {all_of_it} tokens, the first of {len(report.items)} items"
    text = f"{recipe.name}, keep {recipe.keep}: {report.after} of {report.before} tokens"
    if report.decoder is not None and report.decoder.kept:
        last = max(report.decoder.kept)
        text += f", {report.decoder.layers[last]} from layer {last}"
    return text


def _first(report: Report) -> ItemReport:
    if not report.items:
        raise ValueError("report holds no item to draw; draw a call that had an image")
    return at_last_layer(report)[0]


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
    """Return `tokens` `[K]` of a layout after a cut: `structural` `[N]` ones leave with the last candidate."""
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


def overlay(image: Image.Image, item: ItemReport, caption: str = "", *, unit: int = 0, frame: int = 0) -> Image.Image:
    """Draw what was kept of `item` over `image`, at most 2048 pixels on its longer side, above a legend.

    Kept cells stay clear inside an outline, dropped ones are dimmed and lose their colour. Where tokens were merged, a
    cell that went into a kept one is tinted with that one's outline, lines part the regions, and a cell that went
    nowhere has a line across it.

    Args:
        image: what the encoder saw, as `view(image, image_processor)` gives it.
        item: one of `model.vtc.report.items`.
        caption: a line to put under the image.
        unit, frame: which unit of the item (tile, frame, clip) and which frame of it to draw.

    Raises:
        ValueError: no such unit or frame.
    """
    return captioned(marked(_bounded(image), item, unit, frame), caption, marks_of(item))


def mosaic(image: Image.Image, item: ItemReport, caption: str = "") -> Image.Image:
    """Draw what was kept of an item of tiles: each tile over its part of `image`, a thumbnail at their right.

    A token that was folded into another tile's has the colour of that one.

    Args:
        image: the whole image that the tiles were cut from.
        item: one of `model.vtc.report.items`.
        caption: a line to put under the image.
    """
    return captioned(_tiles(_bounded(image), item), caption, marks_of(item))


def _tiles(image: Image.Image, item: ItemReport) -> Image.Image:
    tiles, shown, colors = image.convert("RGB"), [], colors_of(item)
    for unit, (part, box) in enumerate(zip(item.units, item.layout.boxes, strict=True)):
        if part.kind == "thumbnail":
            shown.append(marked(image, item, unit, 0, colors))
            continue
        top, left, bottom, right = (round(share * side) for share, side in zip(box, image.size[::-1] * 2, strict=True))
        if bottom - top >= part.grid[1] and right - left >= part.grid[2]:
            tiles.paste(marked(image.crop((left, top, right, bottom)), item, unit, 0, colors), (left, top))
    out = Image.new("RGB", (sum(p.width for p in (tiles, *shown)) + 8 * len(shown), tiles.height), "white")
    for number, part_drawn in enumerate((tiles, *shown)):
        out.paste(part_drawn, (number * (tiles.width + 8), 0))
    return out


def _bounded(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest <= LARGEST:
        return image
    size = tuple(max(1, round(side * LARGEST / longest)) for side in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
