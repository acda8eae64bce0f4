"""DeepSeek-OCR 2, Unlimited-OCR and Step 3.7: tiles of an image beside the whole of it, in tensors of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor

from vtc.core.tokens import Layout, VisualTokens

from .base import Media
from .generic import Generic
from .rows import in_rows, with_separator

COUNTS, LOCAL, GRID = "num_local_patches", "pixel_values_local", "patches_grid"


class LocalTiles(Generic):
    """Base. An item is an image: its tiles, if any, then the whole of it, called thumbnail where there are tiles.

    `pixel_values` is `[images, 3, H, W]`, `pixel_values_local` `[tiles, 3, h, w]` of all images, `num_local_patches`
    how many each has. The encoders give no cues.
    """

    thumbnails = True

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`."""
        pixels, local = inputs.get("pixel_values"), inputs.get(LOCAL)
        if pixels is None:
            return []
        counts = [0] * len(pixels) if inputs.get(COUNTS) is None else torch.as_tensor(inputs[COUNTS]).tolist()
        total = 0 if local is None else len(local)
        if len(counts) != len(pixels) or sum(counts) != total:
            raise ValueError(
                f"{COUNTS}={counts} for {len(pixels)} images in pixel_values and {total} tiles in {LOCAL}; pass all "
                "that the processor returned, of one call"
            )
        tiles = pixels[:0].split([0] * len(pixels)) if local is None else local.split(counts)
        grids = self._grids(inputs.get(GRID), counts)
        return [
            Media("image", self._layout(whole, own, grid), {"pixel_values": whole, LOCAL: own, GRID: grid})
            for whole, own, grid in zip(pixels, tiles, grids, strict=True)
        ]

    def _grids(self, given: Any, counts: Sequence[int]) -> Sequence[Tensor]:
        """Columns and rows of each image's tiles, `[2]`; one row where the class does not say."""
        return [torch.tensor([count, 1]) for count in counts]

    def _layout(self, whole: Tensor, tiles: Tensor, grid: Tensor) -> Layout:
        """The layout of an image `[3, H, W]` with `tiles` `[n, 3, h, w]`."""
        units = [self._unit(tile, "tile") for tile in tiles]
        return Layout.join([*units, self._unit(whole, "thumbnail" if units else "image")])

    def _unit(self, pixels: Tensor, kind: str) -> Layout:
        raise NotImplementedError

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. All images go through the towers in one pass, and so do all tiles."""
        if not media:
            return []
        tiles = [item.inputs[LOCAL] for item in media]
        local = [own for own in tiles if len(own)]
        given: dict[str, Any] = {"pixel_values": torch.stack([item.inputs["pixel_values"] for item in media])}
        given |= {LOCAL: torch.cat(local), COUNTS: [len(own) for own in tiles]} if local else {}
        given |= self._more(media)
        parts = self.model.base_model.get_image_features(**given, return_dict=True).pooler_output
        self._check_counts(media, parts)
        return [VisualTokens(part, item.layout) for part, item in zip(parts, media, strict=True)]

    def _more(self, media: Sequence[Media]) -> dict[str, Any]:
        """Further arguments of the encoder."""
        return {}


class Step3(LocalTiles):
    """Step 3.7. A tower of patches, halved twice along each side."""

    classes = ("Step3p7ForConditionalGeneration",)

    def _unit(self, pixels: Tensor, kind: str) -> Layout:
        patch = int(self.model.config.vision_config.patch_size)
        height, width = (ceil(ceil(side // patch / 2) / 2) for side in pixels.shape[-2:])
        return Layout.of_grid(height, width, kind=kind)


class DeepseekOcr2(LocalTiles):
    """DeepSeek-OCR 2. Tokens are queries to an encoder, which stand in a line; a separator closes each image.

    The separator always goes on.
    """

    classes = ("DeepseekOcr2ForConditionalGeneration",)

    def _unit(self, pixels: Tensor, kind: str) -> Layout:
        tower = self.model.base_model.vision_tower
        small, large = tower.query_768_resolution.num_embeddings, tower.query_1024_resolution.num_embeddings
        seen = _compressed(self.model, pixels.shape[-2]) * _compressed(self.model, pixels.shape[-1])
        return Layout.of_grid(1, small if seen <= small else large, kind=kind)

    def _layout(self, whole: Tensor, tiles: Tensor, grid: Tensor) -> Layout:
        return with_separator(super()._layout(whole, tiles, grid))


class UnlimitedOcr(LocalTiles):
    """Unlimited-OCR. The tiles make one raster with a newline behind each row; the whole image has newlines too.

    Newlines, and the separator that closes each image, always go on.
    """

    classes = ("UnlimitedOcrForConditionalGeneration",)

    def _grids(self, given: Any, counts: Sequence[int]) -> Sequence[Tensor]:
        if given is None and any(counts):
            raise ValueError(f"{GRID} is missing; pass all that the processor returned")
        if given is None:
            return super()._grids(given, counts)
        grids = torch.as_tensor(given)
        if [max(n, 1) for n in counts] != [max(n, 1) for n in grids.prod(-1).tolist()] and any(counts):
            raise ValueError(f"{GRID}={grids.tolist()} and {COUNTS}={list(counts)} differ; pass both from one call")
        return list(grids)

    def _layout(self, whole: Tensor, tiles: Tensor, grid: Tensor) -> Layout:
        side = _compressed(self.model, whole.shape[-1])
        if not len(tiles):
            return with_separator(in_rows(side, side))
        canvas = _canvas(_compressed(self.model, tiles.shape[-1]), *grid.tolist())
        return with_separator(Layout.join([canvas, in_rows(side, side, kind="thumbnail")]))

    def _more(self, media: Sequence[Media]) -> dict[str, Any]:
        return {GRID: [item.inputs[GRID].tolist() for item in media]}


def _compressed(model: Any, side: int) -> int:
    """Return how many patches along a side the compressor leaves: a quarter."""
    return side // int(model.config.vision_config.sam_config.patch_size) // 4


def _canvas(side: int, columns: int, rows: int) -> Layout:
    """The layout of `rows x columns` tiles of `side x side` tokens in one raster, each of its rows with a newline."""
    y, x = torch.meshgrid(torch.arange(rows * side), torch.arange(columns * side + 1), indexing="ij")
    newline = (x == columns * side).flatten()
    cell = torch.stack([torch.zeros_like(y), y % side, x % side], dim=-1).flatten(0, 1)
    return Layout(
        unit=(y // side * columns + (x // side).clamp(max=columns - 1)).flatten(),
        cell=cell.masked_fill(newline[:, None], -1),
        structural=newline,
        grids=((1, side, side),) * (rows * columns),
        kinds=("tile",) * (rows * columns),
        boxes=tuple(
            (r / rows, c / columns, (r + 1) / rows, (c + 1) / columns) for r in range(rows) for c in range(columns)
        ),
    )
