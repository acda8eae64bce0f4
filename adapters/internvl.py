"""InternVL: tiles and a thumbnail, 2 x 2 patches a token (transformers' `InternVLForConditionalGeneration`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, pad
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtc.core.tokens import Embedded, Layout, VisualTokens

from .base import Media
from .cues import recording
from .vision_tower import Towered

COARSE = 32
"""Pixels along a side of a tile, at most, to which tiles are shrunk before their arrangement is looked for."""


class InternVL(Towered):
    """InternVL 2.5, 3 and 3.5 in transformers' own format. The tower has a CLS; a token is made of 2 x 2 patches.

    `pixel_values` holds the tiles of all images and says nothing of images: an image is a run of placeholders in
    the prompt. Nor is there a word about how its tiles are arranged, which is found from the pixels, see `arrangement`.
    A run of three tiles or more ends in the thumbnail, as the processor writes it; a run of two has none.

    A video comes as images of one tile with text between them ("Frame1: ..."). Without the tokenizer it cannot be
    told from images, so each frame is an item of its own: `keep` is a share of each frame.

    Cues of the patches are averaged over a token's own.
    """

    classes = ("InternVLForConditionalGeneration",)
    media_arguments = (
        "pixel_values",
        "pixel_values_videos",
        "vision_feature_layer",
        "vision_feature_select_strategy",
    )
    thumbnails = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._merge = round(1 / self.model.config.downsample_ratio)
        if self._tower.passes_cls:
            raise ValueError(
                "vision_feature_select_strategy='full' passes on the class token, and pixel shuffle takes patches "
                "only; set it to 'default'"
            )

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {"image": int(self.model.config.image_token_id)}

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. `pixel_values` is `[tiles, 3, H, W]`, of all images in prompt order."""
        if inputs.get("pixel_values_videos") is not None:
            raise ValueError(
                "pixel_values_videos: InternVL takes frames as pixel_values, as its processor returns them; pass all "
                "that the processor returned"
            )
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return []
        self._tower.check(inputs)
        side = self._side(pixels)
        counts = self._tiles_by_run(inputs.get("input_ids"), len(pixels), side**2)
        return [Media("image", layout_of_tiles(tiles, side), {"pixel_values": tiles}) for tiles in pixels.split(counts)]

    def _side(self, pixels: Any) -> int:
        """Tokens along a side of a tile."""
        unit = int(self.model.config.vision_config.patch_size[0]) * self._merge
        if not isinstance(pixels, Tensor) or pixels.ndim != 4:
            shape = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise ValueError(f"pixel_values is {shape}; expected a tensor [tiles, channels, height, width]")
        height, width = pixels.shape[2:]
        if height != width or height % unit:
            raise ValueError(
                f"pixel_values has tiles of {height} x {width} pixels; expected squares of a multiple of {unit}: use "
                "the checkpoint's own processor"
            )
        return int(height) // unit

    def _tiles_by_run(self, ids: Any, tiles: int, tokens: int) -> list[int]:
        """Return how many tiles each run of placeholders stands for, each tile for so many tokens."""
        if not isinstance(ids, Tensor) or ids.ndim != 2:
            raise ValueError(
                "input_ids are missing; images are told apart by their placeholders: pass input_ids [batch, length] "
                "together with pixel_values"
            )
        token = self.placeholders["image"]
        edges = pad((ids == token).int().cpu(), (1, 1)).diff(dim=1)
        starts, ends = (torch.nonzero(edges == way)[:, 1] for way in (1, -1))
        runs: list[int] = (ends - starts).tolist()
        if sum(runs) != tiles * tokens or any(run % tokens for run in runs):
            raise ValueError(
                f"input_ids hold {(ids == token).sum(dim=1).tolist()} placeholders (id {token}) by row, in runs of "
                f"{runs}, but pixel_values holds {tiles} tiles of {tokens} tokens each; pass ids and pixels of one "
                "processor call, whole rows only"
            )
        return [run // tokens for run in runs]

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. Tiles of one size go through the tower together."""
        found: dict[int, VisualTokens] = {}
        sizes = [item.inputs["pixel_values"].shape[-1] for item in media]
        for size in dict.fromkeys(sizes):
            places = [i for i, other in enumerate(sizes) if other == size]
            found.update(zip(places, self._encode([media[i] for i in places], cues), strict=True))
        return [found[i] for i in range(len(media))]

    def _encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        counts = [len(item.inputs["pixel_values"]) for item in media]
        pixels = torch.cat([item.inputs["pixel_values"] for item in media])
        with recording() as recorded:
            features = self.model.base_model.get_image_features(pixels, return_dict=True).pooler_output
        values = {cue: self._cue(cue, recorded).split(counts) for cue in cues}
        return [
            VisualTokens(
                rows.flatten(0, 1), item.layout, {cue: value[i].flatten(0, 1) for cue, value in values.items()}
            )
            for i, (rows, item) in enumerate(zip(features.split(counts), media, strict=True))
        ]

    def _cue(self, name: str, recorded: Mapping[str, Any]) -> Tensor:
        """The cue for all tiles of one pass, `[tiles, tokens, ...]`."""
        values = self._tower.cue(name, recorded)
        if name == "encoder_features":  # the projector gets tokens already
            return values
        side = int(values.shape[1] ** 0.5) // self._merge
        return values.unflatten(1, (side, self._merge, side, self._merge)).float().mean(dim=(2, 4)).flatten(1, 2)

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """See `Adapter.output`. The model takes one tensor `[tiles, tokens, D]`; it gets all tokens as one tile."""
        return BaseModelOutputWithPooling(pooler_output=torch.cat([item.features for item in items])[None])


def layout_of_tiles(tiles: Tensor, side: int) -> Layout:
    """The layout of an image of some tiles `[tiles, 3, H, W]`, `side` tokens a side."""
    if len(tiles) == 1:
        return Layout.of_grid(side, side)
    rows, columns = arrangement(tiles)
    parts = [
        Layout.of_grid(side, side, kind="tile", box=(y / rows, x / columns, (y + 1) / rows, (x + 1) / columns))
        for y in range(rows)
        for x in range(columns)
    ]
    return Layout.join(parts if len(tiles) == 2 else [*parts, Layout.of_grid(side, side, kind="thumbnail")])


def arrangement(tiles: Tensor) -> tuple[int, int]:
    """The rows and columns in which tiles make up an image.

    Of all that have as many cells as there are tiles, it is that whose mosaic, shrunk to the thumbnail's size by area
    averaging, differs least from the thumbnail, the last of `tiles`. Two tiles have no thumbnail: they stand along the
    side on which their pixels differ less across the seam. Equals go to the nearest to square, and to the wider one.

    Args:
        tiles: `[tiles, 3, H, W]` pixels, two or more.
    """
    count = max(2, len(tiles) - 1)
    ways = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    ways.sort(key=lambda way: (abs(way[0] - way[1]), way[0]))
    side = min(COARSE, tiles.shape[-1])
    small = adaptive_avg_pool2d(tiles.detach().float(), side)
    if len(tiles) == 2:
        differences = [_seam(small, rows) for rows, _ in ways]
    else:
        differences = [(_mosaic(small[:-1], *way) - small[-1]).square().mean() for way in ways]
    # Pixels that are NaN or infinite fit nowhere; where nothing fits, all is equal.
    found: list[float] = torch.stack(differences).nan_to_num(nan=torch.inf).tolist()
    # What differs by less than rounding could is equal.
    return next(way for way, value in zip(ways, found, strict=True) if value <= min(found) * (1 + 1e-4) + 1e-9)


def _mosaic(tiles: Tensor, rows: int, columns: int) -> Tensor:
    """Tiles `[rows * columns, 3, S, S]` put together and shrunk to the size of one, `[3, S, S]`."""
    whole = rearrange(tiles, "(r c) colors h w -> colors (r h) (c w)", r=rows, c=columns)
    return avg_pool2d(whole, (rows, columns))


def _seam(tiles: Tensor, rows: int) -> Tensor:
    """How two tiles `[2, 3, S, S]` differ where they meet, one above the other (2 rows) or side by side (1)."""
    first, second = tiles
    meeting = first[:, -1] - second[:, 0] if rows == 2 else first[..., -1] - second[..., 0]
    return meeting.square().mean()
