"""InternVL in transformers' format."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from vtc.adapters import InternVL, Media
from vtc.adapters.cues import NAMES
from vtc.adapters.internvl import layout_of_tiles

from .base import EngineModel, Family


class ServedInternVL(EngineModel):
    """InternVL: each tile goes through the tower as an image of its own."""

    def get_image_features(self, pixels: Tensor, **_: Any) -> Any:
        """See transformers' method of that name."""
        ones = torch.ones(len(pixels), dtype=torch.int64)
        token = self.config.image_token_id
        rows = self._encode(pixel_values=pixels, image_num_patches=ones, image_token_id=token)
        return SimpleNamespace(pooler_output=torch.stack(list(rows)))


class InternVLFamily(Family, InternVL):
    """InternVL in transformers' format. Here each item says how many tiles it has, so that no prompt is needed."""

    served = ServedInternVL
    counted: ClassVar[Mapping[str, str]] = {"image": "image_num_patches"}

    @property
    def given_cues(self) -> frozenset[str]:
        """See `Family.given_cues`."""
        return frozenset(NAMES)

    def items(self, batch: Mapping[str, Any]) -> list[Media]:
        """See `Family.items`."""
        pixels = batch["pixel_values"]
        counts, side = batch["image_num_patches"].tolist(), self._side(pixels)
        return [Media("image", layout_of_tiles(tiles, side), {"pixel_values": tiles}) for tiles in pixels.split(counts)]
