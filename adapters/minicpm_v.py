"""MiniCPM-V 4.6 and 4.7 and MiniCPM-OCR: patches of all images side by side, sizes beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vtc.core.tokens import Layout, VisualTokens

from .base import Media
from .generic import Generic


class MiniCPMV(Generic):
    """MiniCPM-V. An item is what the processor encodes at once: an image's overview, or one of its slices.

    The encoder gives no cues. Videos are refused.
    """

    classes = (
        "MiniCPMV4_6ForConditionalGeneration",
        "MiniCPMV4_7ForConditionalGeneration",
        "MiniCPMOcrForConditionalGeneration",
    )

    def __init__(self, model: nn.Module) -> None:
        if getattr(model.config, "image_token_id", None) is None:
            raise ValueError(
                f"config.image_token_id=None of {type(model).__name__}: it tells where images stand in a prompt; set "
                "it to the id of the processor's image token"
            )
        super().__init__(model)
        self._listed = True
        # Two merges of 2 x 2 patches, or one, as the config says.
        self._side = 2 if self.model.config.downsample_mode == "4x" else 4
        self._side *= 2 ** (int(self.model.config.merger_times) - 1)

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. `pixel_values` is `[1, 3, patch, values]`, `target_sizes` `[images, 2]` in patches."""
        self._refuse({**inputs, "target_sizes": None})
        pixels, sizes = inputs.get("pixel_values"), inputs.get("target_sizes")
        if pixels is None:
            return []
        if sizes is None:
            raise ValueError("target_sizes is missing; pass all that the processor returned")
        patch = int(self.model.config.vision_config.patch_size)
        widths = (torch.as_tensor(sizes).prod(-1) * patch).tolist()
        if pixels.ndim != 4 or sum(widths) != pixels.shape[-1]:
            raise ValueError(
                f"target_sizes describe {sum(widths) // patch} patches of {patch} pixels, but pixel_values is "
                f"{tuple(pixels.shape)}; expected [1, channels, {patch}, {sum(widths)}], of one processor call"
            )
        return [
            Media("image", self._layout(size), {"pixel_values": own, "target_sizes": size})
            for own, size in zip(pixels[0].split(widths, dim=-1), torch.as_tensor(sizes), strict=True)
        ]

    def _layout(self, size: Tensor) -> Layout:
        height, width = size.tolist()
        return Layout.of_grid(height // self._side, width // self._side)

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. All images go through the tower in one pass."""
        if not media:
            return []
        pixels = torch.cat([item.inputs["pixel_values"] for item in media], dim=-1)[None]
        sizes = torch.stack([item.inputs["target_sizes"] for item in media])
        parts = self.model.base_model.get_image_features(pixels, sizes, return_dict=True).pooler_output
        for item, part in zip(media, parts, strict=True):
            if len(part) != len(item.layout):
                raise ValueError(
                    f"target_sizes {item.inputs['target_sizes'].tolist()} is encoded to {len(part)} tokens, expected "
                    f"{len(item.layout)}; use the checkpoint's own processor"
                )
        return [VisualTokens(part, item.layout) for part, item in zip(parts, media, strict=True)]
