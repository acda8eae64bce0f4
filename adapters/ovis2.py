"""Ovis2: a thumbnail, then tiles, with tokens between that the model itself embeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtc.core.tokens import Embedded, Layout, VisualTokens

from .base import Media
from .generic import Generic
from .placeholders import PlaceholderRun, runs


class Ovis2(Generic):
    """Ovis2. The tiles of an image are units of one item, behind its thumbnail; an image of one tile is one unit.

    The prompt writes `start thumbnail grid tile col tile row tile col tile end`; what stands between runs of
    placeholders is text to a reduction, and always goes on. The encoder gives no cues.
    """

    classes = ("Ovis2ForConditionalGeneration",)
    thumbnails = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._listed = False
        self._col, self._row = self.model.config.visual_indicator_token_ids[2:4]

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. `pixel_values` is `[tiles, 3, H, W]`, of all images one after the other."""
        self._refuse(inputs)
        pixels, ids = inputs.get("pixel_values"), inputs.get("input_ids")
        if pixels is None:
            return []
        lines = ids.tolist() if isinstance(ids, Tensor) else []
        grids = _grids(lines, runs(lines, self.placeholders["image"]), self._col, self._row)
        counts = [1 if grid == (1, 1) else 1 + grid[0] * grid[1] for grid, _ in grids]
        if sum(counts) != len(pixels):
            raise ValueError(
                f"pixel_values holds {len(pixels)} tiles, and input_ids write {counts} by image; pass ids and pixels "
                f"of one processor call{self.doubt}"
            )
        return [
            Media("image", _layout(grid, length), {"pixel_values": own})
            for (grid, length), own in zip(grids, pixels.split(counts), strict=True)
        ]

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. All tiles go through the tower in one pass."""
        if not media:
            return []
        pixels = torch.cat([item.inputs["pixel_values"] for item in media])
        rows = self.model.base_model.get_image_features(pixels, return_dict=True).pooler_output
        parts = list(rows.split([len(item.inputs["pixel_values"]) for item in media]))
        parts = [part.flatten(0, 1) for part in parts]
        self._check_counts(media, parts)
        return [VisualTokens(part, item.layout) for part, item in zip(parts, media, strict=True)]

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """See `Adapter.output`. The embeddings of the tokens between the tiles are the model's, whatever is kept."""
        base, out = self.model.base_model, super().output(modality, items)
        size, count = base.visual_vocab_size, base.vision_tower.num_visual_indicator_tokens
        between = torch.arange(size - count, size, device=items[0].features.device)
        out.visual_indicator_features = base.visual_embeddings_table(between)
        return out


def _grids(
    lines: Sequence[Sequence[int]], found: Sequence[PlaceholderRun], col: int, row: int
) -> list[tuple[tuple[int, int], int]]:
    """Of each image, in prompt order, its rows and columns of tiles, and how many placeholders a tile has."""
    images: list[list[PlaceholderRun]] = [[found[0]]] if found else []
    for one, other in pairwise(found):
        if one.row == other.row and other.start == one.start + one.length + 1:
            images[-1].append(other)
        else:
            images.append([other])
    grids = []
    for own in images:
        between = [lines[run.row][run.start - 1] for run in own[1:]]
        across = 1 + next((i for i, token in enumerate(between[1:]) if token == row), len(between[1:]))
        whole = [row if i % across == across - 1 else col for i in range(len(own) - 2)]
        if between[1:] != whole or len({run.length for run in own}) > 1:
            raise ValueError(
                f"input_ids write {[run.length for run in own]} placeholders for an image, parted by {between}: no "
                "rows and columns of tiles behind a thumbnail; use the checkpoint's own processor"
            )
        grids.append(((1, 1) if len(own) == 1 else ((len(own) - 1) // across, across), own[0].length))
    return grids


def _layout(grid: tuple[int, int], length: int) -> Layout:
    """The layout of an image with so many rows and columns of tiles of `length` tokens each."""
    side = isqrt(length)
    shape = (side, side) if side * side == length else (1, length)
    if grid == (1, 1):
        return Layout.of_grid(*shape)
    boxes = [
        (r / grid[0], c / grid[1], (r + 1) / grid[0], (c + 1) / grid[1]) for r in range(grid[0]) for c in range(grid[1])
    ]
    tiles = [Layout.of_grid(*shape, kind="tile", box=box) for box in boxes]
    return Layout.join([Layout.of_grid(*shape, kind="thumbnail"), *tiles])
