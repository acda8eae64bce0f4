"""LLaVA-1.5: one square image, one grid of tokens (transformers' `LlavaForConditionalGeneration`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vtc.core.tokens import Layout, VisualTokens

from .base import Media
from .cues import recording
from .vision_tower import Towered


class Llava(Towered):
    """LLaVA-1.5 with a CLIP tower (CLS) or a SigLIP tower (no CLS)."""

    classes = ("LlavaForConditionalGeneration",)
    media_arguments = (
        "pixel_values",
        "image_sizes",
        "pixel_values_videos",
        "vision_feature_layer",
        "vision_feature_select_strategy",
    )
    resizable = True
    shrinks = True

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {"image": int(self.model.config.image_token_id)}

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. `pixel_values` is `[images, 3, H, W]`."""
        if inputs.get("pixel_values_videos") is not None:
            raise ValueError("pixel_values_videos: LLaVA-1.5 takes no videos; pass images")
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return []
        if not isinstance(pixels, Tensor) or pixels.ndim != 4:
            shape = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise ValueError(f"pixel_values is {shape}; expected a tensor [images, channels, height, width]")
        self._tower.check(inputs)
        patch = int(self.model.config.vision_config.patch_size)
        layout = self._layout(pixels.shape[2] // patch, pixels.shape[3] // patch)
        return [Media("image", layout, {"pixel_values": image}) for image in pixels]

    def _layout(self, height: int, width: int) -> Layout:
        layout = Layout.of_grid(height, width)
        if not self._tower.passes_cls:
            return layout
        # With the strategy `full` the class token goes to the language model too: never a candidate.
        return replace(
            layout,
            unit=torch.cat([layout.unit[:1], layout.unit]),
            cell=torch.cat([layout.cell.new_full((1, 3), -1), layout.cell]),
            structural=torch.cat([torch.ones(1, dtype=torch.bool), layout.structural]),
        )

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. Images of one size go through the tower together."""
        tokens: list[VisualTokens | None] = [None] * len(media)
        sizes = [tuple(item.inputs["pixel_values"].shape) for item in media]
        for size in dict.fromkeys(sizes):
            group = [i for i, other in enumerate(sizes) if other == size]
            for i, encoded in zip(group, self._encode([media[i] for i in group], cues), strict=True):
                tokens[i] = encoded
        return [t for t in tokens if t is not None]

    def _encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        pixels = torch.stack([item.inputs["pixel_values"] for item in media])
        native = self.model.config.vision_config.image_size
        extra = {} if tuple(pixels.shape[2:]) == (native, native) else {"interpolate_pos_encoding": True}
        with recording() as recorded:
            features = self.model.base_model.get_image_features(pixels, return_dict=True, **extra).pooler_output
        values = {cue: self._tower.cue(cue, recorded) for cue in cues}
        found = self._tower.tokens(features, [item.layout for item in media])
        return [
            replace(tokens, cues={cue: value[i] for cue, value in values.items()}) for i, tokens in enumerate(found)
        ]

    def resized(self, media: Media, height: int, width: int) -> Media:
        """See `Adapter.resized`. The tower's position embeddings are interpolated to the smaller grid."""
        patch = int(self.model.config.vision_config.patch_size)
        image = media.inputs["pixel_values"]
        size = (height * patch, width * patch)
        small = interpolate(image[None].float(), size=size, mode="bicubic", antialias=True)[0]
        return Media(media.modality, self._layout(height, width), {"pixel_values": small.to(image.dtype)})
