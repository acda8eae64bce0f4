"""Families whose adapter knows no more than where their images are: no cues, and a tile is an item of its own, as it is
on the Hugging Face route. vLLM numbers positions compactly: no M-RoPE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtc.adapters import Media
from vtc.adapters.base import Adapter
from vtc.adapters.generic import Generic
from vtc.adapters.placeholders import arranged

from .base import EngineModel, Family


class ServedTiles(EngineModel):
    """Each tile goes through the encoder as an image of its own."""

    def get_image_features(self, pixel_values: Tensor, return_dict: bool = True, **fields: Tensor) -> Any:
        """See transformers' method of that name. `pixel_values` is `[tiles, 3, H, W]`."""
        ones = torch.ones(len(pixel_values), dtype=torch.int64)
        rows = self._encode(pixel_values=pixel_values, num_patches=ones, **fields)
        return BaseModelOutputWithPooling(pooler_output=torch.stack(list(rows)))


class TilesFamily(Family, Generic):
    """A family whose processor says how many tiles an image has, each with placeholders of its own."""

    served = ServedTiles
    counted: ClassVar[Mapping[str, str]] = {"image": "num_patches"}
    apart = "num_patches"

    def __init__(self, model: Any) -> None:
        # The generic adapter looks at the methods of a model of transformers, and here is none.
        Adapter.__init__(self, model)
        self._listed = True

    @property
    def given_cues(self) -> frozenset[str]:
        """See `Family.given_cues`."""
        return frozenset()

    @property
    def tile_tokens(self) -> int:
        """How many tokens a tile is."""
        raise NotImplementedError

    def items(self, batch: Mapping[str, Any]) -> list[Media]:
        """See `Family.items`."""
        fields = {name: batch[name] for name in self.media_arguments}
        layout = arranged((self.tile_tokens,), *fields["pixel_values"].shape[-2:])
        return [
            Media("image", layout, {name: values[i] for name, values in fields.items()})
            for i in range(len(fields["pixel_values"]))
        ]


class Gemma3Family(TilesFamily):
    """Gemma 3: an image, and where pan and scan is on, its crops.

    The tokens of an image see each other. vLLM knows them by where the placeholders are, which are fewer and still
    stand together; on a CPU they see what is before them alone, reduced or not. Positions are compact: no M-RoPE.
    """

    media_arguments = ("pixel_values",)

    @property
    def tile_tokens(self) -> int:
        """See `TilesFamily.tile_tokens`."""
        return int(self.model.config.mm_tokens_per_image)


class SmolVLMFamily(TilesFamily):
    """SmolVLM: tiles, each behind its place in words, and all of the image as one more.

    vLLM numbers positions compactly: no M-RoPE.
    """

    media_arguments = ("pixel_values", "pixel_attention_mask")

    @property
    def tile_tokens(self) -> int:
        """See `TilesFamily.tile_tokens`."""
        vision = self.model.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2 / self.model.config.scale_factor**2)
