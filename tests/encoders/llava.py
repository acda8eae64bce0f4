"""LLaVA-1.5 by hand."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from tests.encoders.base import ReferenceEncoder
from tests.encoders.towers import has_cls, tower_cues
from vtc import Layout


class LlavaEncoder(ReferenceEncoder):
    def images(self, inputs):
        return [{"pixel_values": image} for image in inputs.get("pixel_values", [])]

    def layout(self, model, image):
        patch = model.config.vision_config.patch_size
        _, height, width = image["pixel_values"].shape
        grid = Layout.of_grid(height // patch, width // patch)
        if not self._passes_cls(model):
            return grid
        return Layout(
            unit=torch.zeros(1 + len(grid), dtype=torch.int64),
            cell=torch.cat([torch.full((1, 3), -1), grid.cell]),
            structural=torch.arange(1 + len(grid)) == 0,
            grids=grid.grids,
            kinds=grid.kinds,
        )

    def _passes_cls(self, model):
        return has_cls(model) and model.config.vision_feature_select_strategy == "full"

    @torch.no_grad()
    def features(self, model, image):
        size = model.config.vision_config.image_size
        pixels = image["pixel_values"][None]
        extra = {} if pixels.shape[2:] == (size, size) else {"interpolate_pos_encoding": True}
        return model.model.get_image_features(pixels, **extra).pooler_output[0]

    def cues(self, model, image):
        size, pixels = model.config.vision_config.image_size, image["pixel_values"][None]
        extra = {} if pixels.shape[2:] == (size, size) else {"interpolate_pos_encoding": True}
        found = tower_cues(model, pixels, **extra)
        return {name: values[0] for name, values in found.items()}

    def smaller(self, model, image, height, width):
        patch = model.config.vision_config.patch_size
        size = (height * patch, width * patch)
        return {"pixel_values": interpolate(image["pixel_values"][None], size, mode="bicubic", antialias=True)[0]}
