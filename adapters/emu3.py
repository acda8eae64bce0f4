"""Emu3: images as tokens of a codebook, a newline behind each row (`Emu3ForConditionalGeneration`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from .base import Media
from .generic import Generic
from .rows import in_rows


class Emu3(Generic):
    """Emu3. A token is the embedding of a code; newlines always go on.

    Its codebook sees the padding that an image has beside larger ones, so that the codes of a batch are not those of
    its singles, in the stock model too: pixels stay as they came.
    """

    classes = ("Emu3ForConditionalGeneration",)

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. `pixel_values` is `[images, 3, H, W]`, cropped to `image_sizes`."""
        factor = int(self.model.base_model.vqmodel.vision_spatial_factor)
        return [
            replace(item, layout=in_rows(*(side // factor for side in item.inputs["image_sizes"].tolist())))
            for item in super().media(inputs)
        ]

    def _cropped(self, entry: dict[str, Tensor]) -> dict[str, Tensor]:
        return entry
