"""LLaVA-1.5: one square picture, one grid of tokens (transformers' `LlavaForConditionalGeneration`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vtc.tokens import Layout, VisualTokens

from . import cues as signals
from .base import Adapter, Media
from .cues import Tap, first_argument, hearing, split_heads


class Llava(Adapter):
    """LLaVA-1.5 with a CLIP tower (CLS) or a SigLIP tower (no CLS).

    The attention cues come from the layer whose output is the feature (`vision_feature_layer`).
    """

    classes = ("LlavaForConditionalGeneration",)
    media_arguments = ("pixel_values", "image_sizes", "vision_feature_layer", "vision_feature_select_strategy")

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._check_tower()

    def _check_tower(self) -> None:
        kind = self.model.config.vision_config.model_type
        if kind not in ("clip_vision_model", "siglip_vision_model"):
            raise ValueError(
                f"model has a vision tower of type {kind!r}; this adapter knows LLaVA with clip_vision_model and "
                "siglip_vision_model"
            )

        if kind == "siglip_vision_model" and self.model.config.vision_feature_select_strategy != "full":
            raise ValueError(
                f"vision_feature_select_strategy={self.model.config.vision_feature_select_strategy!r} drops the first "
                "patch of a SigLIP tower, which has no class token; set it to 'full'"
            )

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {"image": int(self.model.config.image_token_id)}

    @property
    def has_cls(self) -> bool:
        """Whether the tower has a class token."""
        return bool(self.model.config.vision_config.model_type == "clip_vision_model")

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. `pixel_values` is `[images, 3, H, W]`."""
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return []
        if not isinstance(pixels, Tensor) or pixels.ndim != 4:
            shape = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise ValueError(f"pixel_values is {shape}; expected a tensor [images, channels, height, width]")
        for name in ("vision_feature_layer", "vision_feature_select_strategy"):
            if inputs.get(name) not in (None, getattr(self.model.config, name)):
                raise ValueError(f"{name}={inputs[name]!r} differs from the model's; set it in model.config instead")
        patch = int(self.model.config.vision_config.patch_size)
        layout = self._layout(pixels.shape[2] // patch, pixels.shape[3] // patch)
        return [Media("image", layout, {"pixel_values": picture}) for picture in pixels]

    def _layout(self, height: int, width: int) -> Layout:
        layout = Layout.of_grid(height, width)
        if not (self.has_cls and self.model.config.vision_feature_select_strategy == "full"):
            return layout
        # With the strategy `full` the class token goes to the language model too: never a candidate.
        return replace(
            layout,
            unit=torch.cat([layout.unit[:1], layout.unit]),
            cell=torch.cat([layout.cell.new_full((1, 3), -1), layout.cell]),
            structural=torch.cat([torch.ones(1, dtype=torch.bool), layout.structural]),
        )

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. Pictures of one size go through the tower together."""
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
        with hearing() as heard:
            features = self.model.base_model.get_image_features(pixels, return_dict=True, **extra).pooler_output
        values = {cue: self._cue(cue, heard) for cue in cues}
        return [
            VisualTokens(row, item.layout, {cue: value[i] for cue, value in values.items()})
            for i, (row, item) in enumerate(zip(features, media, strict=True))
        ]

    def _cue(self, name: str, heard: Mapping[str, Any]) -> Tensor:
        """The cue for all pictures of one pass, `[images, N, ...]`."""
        if name == "encoder_features":
            return first_argument(heard["projector"])
        attention = self._attention()
        hidden = first_argument(heard["attention"])
        with torch.no_grad():
            keys = attention.k_proj(hidden)
            if name == "keys":
                return self._without_cls(keys)
            heads = int(attention.num_heads)
            queries, keys = split_heads(attention.q_proj(hidden), heads), split_heads(keys, heads)
        scale = float(attention.scale)
        if name == "cls_attention" or (name == "attention" and self.has_cls):
            row = signals.cls_row(queries, keys, scale)
            full = self.model.config.vision_feature_select_strategy == "full"
            return torch.cat([row.new_zeros(len(row), 1), row], dim=1) if full else row
        return self._without_cls(signals.column_means(queries, keys, scale))

    def _without_cls(self, values: Tensor) -> Tensor:
        """Drops the class token from `[images, 1 + N, ...]` unless it goes to the language model."""
        dropped = self.has_cls and self.model.config.vision_feature_select_strategy == "default"
        return values[:, 1:] if dropped else values

    def _attention(self) -> Any:
        tower = self.model.base_model.vision_tower
        layers = next(m for n, m in tower.named_modules() if n.endswith("encoder.layers"))
        layer = self.model.config.vision_feature_layer
        last = layer if isinstance(layer, int) else layer[-1]
        # hidden_states[0] is the embedding, so a count from the front is one ahead of the layer's own number.
        return layers[last if last < 0 else max(last - 1, 0)].self_attn  # type: ignore[index]

    def taps(self, cues: Sequence[str]) -> list[tuple[nn.Module, Tap]]:
        """See `Adapter.taps`."""
        if "cls_attention" in cues and not self.has_cls:
            raise ValueError("cue 'cls_attention': this vision tower has no CLS token; use 'received_attention'")
        found = []
        if {"attention", "cls_attention", "received_attention", "keys"} & set(cues):
            found.append((self._attention(), Tap("attention")))
        if "encoder_features" in cues:
            found.append((self.model.base_model.multi_modal_projector, Tap("projector")))
        return found

    def resized(self, media: Media, height: int, width: int) -> Media:
        """See `Adapter.resized`. The tower's position embeddings are interpolated to the smaller grid."""
        patch = int(self.model.config.vision_config.patch_size)
        picture = media.inputs["pixel_values"]
        size = (height * patch, width * patch)
        small = interpolate(picture[None].float(), size=size, mode="bicubic", antialias=True)[0]
        return Media(media.modality, self._layout(height, width), {"pixel_values": small.to(picture.dtype)})

    def pixels(self, media: Media) -> Tensor:
        """See `Adapter.pixels`."""
        return media.inputs["pixel_values"]
