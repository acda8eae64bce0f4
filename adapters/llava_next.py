"""LLaVA-NeXT: images of any resolution, in tiles (transformers' `LlavaNextForConditionalGeneration`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vtc.core.tokens import VisualTokens

from .anyres import AnyRes
from .base import Media


class LlavaNext(AnyRes):
    """LLaVA-NeXT (1.6) with a CLIP tower (CLS) or a SigLIP tower (no CLS).

    An image is a thumbnail, then one raster over its tiles with a newline after each row. Units are the thumbnail and
    the tiles; a tile that is padding throughout has no tokens and is none. Videos are another class's,
    `LlavaNextVideoForConditionalGeneration`.
    """

    classes = ("LlavaNextForConditionalGeneration",)
    media_arguments = (
        "pixel_values",
        "image_sizes",
        "pixel_values_videos",
        "vision_feature_layer",
        "vision_feature_select_strategy",
    )

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {"image": int(self.model.config.image_token_id)}

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. `pixel_values` is `[images, tiles, 3, H, W]`, `image_sizes` `[images, 2]`."""
        if inputs.get("pixel_values_videos") is not None:
            raise ValueError("pixel_values_videos: LLaVA-NeXT takes no videos; pass their frames as images")
        return self._images(inputs)

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. All tiles of all images go through the tower in one pass."""
        return self._encode_images(media, cues) if media else []

    def _features(self, pixels: Tensor, sizes: Tensor) -> Sequence[Tensor]:
        return self.model.base_model.get_image_features(pixels, sizes, return_dict=True).pooler_output

    def _packed(self, values: Sequence[Tensor], sizes: Tensor) -> Sequence[Tensor]:
        strategy = self.model.config.vision_feature_select_strategy
        return self.model.base_model.pack_image_features(values, sizes, strategy, image_newline=None)[0]
