"""SmolVLM, Mistral 3 and Gemma 3 by hand: what the stock encoder gives to one image after the other."""

from __future__ import annotations

import torch

from tests.encoders.base import ReferenceEncoder
from vtc import Layout


class EncoderWithoutAttention(ReferenceEncoder):
    """A family without cues."""

    def cues(self, model, image):
        return {}


class SmolVLMEncoder(EncoderWithoutAttention):
    """An image is a tile."""

    def images(self, inputs):
        if "pixel_values" not in inputs:
            return []
        tiles = [
            {"pixel_values": tile, "pixel_attention_mask": mask}
            for row, masks in zip(inputs["pixel_values"], inputs["pixel_attention_mask"], strict=True)
            for tile, mask in zip(row, masks, strict=True)
        ]
        return [tile for tile in tiles if (tile["pixel_values"] != 0).any()]

    def layout(self, model, image):
        return Layout.of_grid(3, 3)

    @torch.no_grad()
    def features(self, model, image):
        pixels, mask = (image[name][None, None] for name in ("pixel_values", "pixel_attention_mask"))
        found = model.model.get_image_features(pixels, mask).pooler_output
        return torch.cat([part.flatten(0, -2) for part in found])


class Mistral3Encoder(EncoderWithoutAttention):
    def images(self, inputs):
        return [
            {"pixel_values": image[:, :h, :w], "image_sizes": torch.tensor([h, w])}
            for image, (h, w) in zip(
                inputs.get("pixel_values", ()), inputs.get("image_sizes", torch.empty(0)).tolist(), strict=True
            )
        ]

    def layout(self, model, image):
        h, w = image["image_sizes"].tolist()
        return Layout.of_grid(h // 8, w // 8)

    @torch.no_grad()
    def features(self, model, image):
        # With a twin: the stock encoder fails for an image of one token alone.
        pixels, sizes = (torch.stack([image[name]] * 2) for name in ("pixel_values", "image_sizes"))
        return model.model.get_image_features(pixels, image_sizes=sizes).pooler_output[0]


class Gemma3Encoder(EncoderWithoutAttention):
    def images(self, inputs):
        return [{"pixel_values": image} for image in inputs.get("pixel_values", ())]

    def layout(self, model, image):
        return Layout.of_grid(3, 3)

    @torch.no_grad()
    def features(self, model, image):
        return model.model.get_image_features(image["pixel_values"][None]).pooler_output[0]
