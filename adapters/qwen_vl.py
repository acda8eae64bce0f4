"""Qwen2.5-VL: native resolution, 2 x 2 patches a token, windowed attention, M-RoPE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers.vision_utils import get_vision_window_index

from vtc.tokens import Layout, VisualTokens

from . import cues as signals
from .base import Adapter, Media
from .cues import Tap, first_argument, hearing, split_heads


class Qwen25VL(Adapter):
    """Qwen2.5-VL, images. A token is the merger's output for 2 x 2 patches; there is no CLS.

    The attention cue is the attention received in the last full-attention block, averaged over the token's patches.
    """

    classes = ("Qwen2_5_VLForConditionalGeneration",)
    media_arguments = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", "second_per_grid_ts")

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {"image": int(self.model.config.image_token_id)}

    @property
    def _visual(self) -> Any:
        return self.model.base_model.visual

    @property
    def _merge(self) -> int:
        return int(self.model.config.vision_config.spatial_merge_size)

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. `pixel_values` is `[patches, values]`, `image_grid_thw` `[images, 3]` in patches."""
        if inputs.get("pixel_values_videos") is not None:
            raise ValueError("pixel_values_videos: videos of this family are not reduced yet; pass images")
        pixels, grids = inputs.get("pixel_values"), inputs.get("image_grid_thw")
        if pixels is None:
            return []
        if grids is None:
            raise ValueError("image_grid_thw is missing; pass all that the processor returned")
        counts = grids.prod(-1).tolist()
        if sum(counts) != len(pixels):
            raise ValueError(
                f"image_grid_thw {grids.tolist()} describes {sum(counts)} patches, but pixel_values holds {len(pixels)}"
            )
        merge = self._merge
        return [
            Media(
                "image",
                Layout.of_grid(h // merge, w // merge, frames=t),
                {"pixel_values": patches, "image_grid_thw": grid},
            )
            for patches, grid, (t, h, w) in zip(pixels.split(counts), grids, grids.tolist(), strict=True)
        ]

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. All pictures go through the tower in one pass."""
        pixels = torch.cat([item.inputs["pixel_values"] for item in media])
        grids = torch.stack([item.inputs["image_grid_thw"] for item in media])
        with hearing() as heard:
            features = self.model.base_model.get_image_features(pixels, grids, return_dict=True).pooler_output
        counts = [len(item.layout) for item in media]
        values = {cue: self._cue(cue, heard, grids).split(counts) for cue in cues}
        return [
            VisualTokens(row, item.layout, {cue: value[i] for cue, value in values.items()})
            for i, (row, item) in enumerate(zip(features, media, strict=True))
        ]

    def _cue(self, name: str, heard: Mapping[str, Any], grids: Tensor) -> Tensor:
        """The cue for all tokens of one pass, `[tokens, ...]`, in the order of the features."""
        patches = self._patch_cue(name, heard)
        groups = patches.unflatten(0, (-1, self._merge**2)).float().mean(dim=1)
        vision = self.model.config.vision_config
        order, _ = get_vision_window_index(grids.cpu(), self._merge, vision.window_size, vision.patch_size)
        return groups[torch.argsort(order).to(groups.device)]

    def _patch_cue(self, name: str, heard: Mapping[str, Any]) -> Tensor:
        """The cue for all patches, in the tower's window order."""
        if name == "encoder_features":
            return first_argument(heard["merger"])
        args, kwargs = heard["attention"]
        attention = self._attention()
        with torch.no_grad():
            queries, keys, _ = attention.qkv(first_argument((args, kwargs))).chunk(3, dim=-1)
        if name == "keys":
            return keys
        heads = int(attention.num_heads)
        queries, keys = (split_heads(rows[None], heads) for rows in (queries, keys))
        cos, sin = kwargs["position_embeddings"]
        queries, keys = (_rotate(rows.float(), cos.float(), sin.float()) for rows in (queries, keys))
        lengths = kwargs["cu_seqlens"].diff().tolist()
        parts = zip(queries.split(lengths, dim=2), keys.split(lengths, dim=2), strict=True)
        return torch.cat([signals.column_means(q, k, float(attention.scaling))[0] for q, k in parts])

    def _attention(self) -> Any:
        return self._visual.blocks[max(self.model.config.vision_config.fullatt_block_indexes)].attn

    def taps(self, cues: Sequence[str]) -> list[tuple[nn.Module, Tap]]:
        """See `Adapter.taps`."""
        if "cls_attention" in cues:
            raise ValueError("cue 'cls_attention': Qwen2.5-VL has no CLS token; use 'received_attention'")
        found = []
        if {"attention", "received_attention", "keys"} & set(cues):
            found.append((self._attention(), Tap("attention")))
        if "encoder_features" in cues:
            found.append((self._visual.merger, Tap("merger")))
        return found

    def text_positions(self, start: Tensor, mask: Tensor) -> Tensor:
        """See `Adapter.text_positions`: text stands at the same place on all axes."""
        return super().text_positions(start, mask).expand(4, -1, -1)

    def resized(self, media: Media, height: int, width: int) -> Media:
        """See `Adapter.resized`."""
        vision = self.model.config.vision_config
        frames = media.layout.grids[0][0]
        size = (height * self._merge * vision.patch_size, width * self._merge * vision.patch_size)
        patches = media.inputs["pixel_values"]
        small = interpolate(self._unpatch(media).float(), size=size, mode="bicubic", antialias=True)
        grid = torch.tensor([frames, height * self._merge, width * self._merge])
        inputs = {
            "pixel_values": self._patch(small).to(patches.dtype),
            "image_grid_thw": grid.to(media.inputs["image_grid_thw"]),
        }
        return Media(media.modality, Layout.of_grid(height, width, frames=frames), inputs)

    def pixels(self, media: Media) -> Tensor:
        """See `Adapter.pixels`."""
        return self._unpatch(media)[0]

    def _unpatch(self, media: Media) -> Tensor:
        """Patches back as pictures, `[frames, 3, H, W]`; a frame is repeated where the encoder takes two at once."""
        vision, merge = self.model.config.vision_config, self._merge
        t, h, w = media.layout.grids[0]
        p, depth = vision.patch_size, vision.temporal_patch_size
        blocks = media.inputs["pixel_values"].reshape(t, h, w, merge, merge, vision.in_channels, depth, p, p)
        order = blocks.permute(0, 6, 5, 1, 3, 7, 2, 4, 8)
        return order.reshape(t * depth, vision.in_channels, h * merge * p, w * merge * p)

    def _patch(self, frames: Tensor) -> Tensor:
        """Pictures `[frames, 3, H, W]` as patches in the processor's order, `[patches, values]`."""
        vision, merge = self.model.config.vision_config, self._merge
        p, depth = vision.patch_size, vision.temporal_patch_size
        total, channels, height, width = frames.shape
        h, w = height // (merge * p), width // (merge * p)
        blocks = frames.reshape(total // depth, depth, channels, h, merge, p, w, merge, p)
        order = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
        return order.reshape(-1, channels * depth * p * p)


def _rotate(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of `[B, heads, N, dim]` by `[N, dim]` angles (halves convention)."""
    first, second = rows.chunk(2, dim=-1)
    return rows * cos + torch.cat([-second, first], dim=-1) * sin
