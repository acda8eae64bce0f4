"""Granite-Docling: tiles with DeepStack planes (`GraniteDoclingForConditionalGeneration`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtc.core.tokens import Embedded, Layout, VisualTokens

from .base import Media
from .generic import Generic


class GraniteDocling(Generic):
    """Granite-Docling. An item is a tile, or the thumbnail behind an image's tiles; the encoder gives no cues.

    The router of tiles, where a checkpoint has one, judges whole images, and is not asked here.
    """

    classes = ("GraniteDoclingForConditionalGeneration",)

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. `pixel_values` is `[rows, tiles, 3, H, W]`, with a mask `[rows, tiles]` of real ones."""
        pixels, mask = inputs.get("pixel_values"), inputs.get("pixel_attention_mask")
        if pixels is None:
            return []
        if pixels.ndim != 5 or not isinstance(mask, Tensor) or mask.shape != pixels.shape[:2]:
            shape = tuple(mask.shape) if isinstance(mask, Tensor) else mask
            raise ValueError(
                f"pixel_values is {tuple(pixels.shape)} and pixel_attention_mask {shape}; expected [rows, tiles, "
                "channels, height, width] and [rows, tiles]; pass all that the processor returned"
            )
        fine = torch.tensor(inputs.get("tile_fine_mask") is not None)
        side = isqrt(int(self.model.base_model.image_seq_len)) * (2 if fine else 1)
        layout = Layout.of_grid(side, side)
        return [Media("image", layout, {"pixel_values": tile, "fine": fine}) for tile in pixels[mask.bool()]]

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. All tiles go through the tower in one pass, each as a sample of its own."""
        if not media:
            return []
        pixels = torch.stack([item.inputs["pixel_values"] for item in media])[:, None]
        mask = torch.ones(pixels.shape[:2], dtype=torch.bool, device=pixels.device)
        fine = mask[:, 0] if bool(media[0].inputs["fine"]) else None
        output = self.model.base_model.get_image_features(pixels, mask, tile_fine_mask=fine, return_dict=True)
        self._check_counts(media, output.pooler_output)
        planes = output.deepstack_features or ()
        return [
            VisualTokens(row, item.layout, planes=tuple(plane[i] for plane in planes))
            for i, (row, item) in enumerate(zip(output.pooler_output, media, strict=True))
        ]

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """See `Adapter.output`."""
        from transformers.models.granite_docling.modeling_granite_docling import GraniteDoclingImageFeaturesOutput

        planes: Any = [list(plane) for plane in zip(*(item.planes for item in items), strict=True)]
        rows: Any = [item.features for item in items]
        return GraniteDoclingImageFeaturesOutput(pooler_output=rows, deepstack_features=planes)
