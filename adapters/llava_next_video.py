"""LLaVA-NeXT-Video: images as LLaVA-NeXT has them, and videos whose frames are pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtc.core.tokens import Embedded, Layout, VisualTokens

from .base import Media
from .cues import recording
from .llava_next import LlavaNext


class LlavaNextVideo(LlavaNext):
    """LLaVA-NeXT-Video. Each frame of a video is a unit, its patches pooled before the projector; no newlines.

    Cues of patches are averaged over those that a token was pooled from.
    """

    classes = ("LlavaNextVideoForConditionalGeneration",)
    videos = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._stride = int(self.model.config.spatial_pool_stride)

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {**super().placeholders, "video": int(self.model.config.video_token_id)}

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. Images as in LLaVA-NeXT; `pixel_values_videos` is `[videos, frames, 3, H, W]`."""
        videos = inputs.get("pixel_values_videos")
        if videos is None:
            return self._images(inputs)
        if not isinstance(videos, Tensor) or videos.ndim != 5:
            shape = tuple(videos.shape) if isinstance(videos, Tensor) else type(videos).__name__
            raise ValueError(
                f"pixel_values_videos is {shape}; expected a tensor [videos, frames, channels, height, width]"
            )
        self._tower.check(inputs)
        found = [Media("video", self._video(len(frames)), {"pixel_values": frames}) for frames in videos]
        return [*self._images(inputs), *found]

    def _video(self, frames: int) -> Layout:
        side = self._tile.side // self._stride
        return Layout.join([Layout.of_grid(side, side, kind="frame")] * frames)

    def frames(self, media: Media) -> Tensor:
        """See `Adapter.frames`."""
        return media.inputs["pixel_values"][:, None]

    def with_frames(self, media: Media, chosen: Tensor) -> Media:
        """See `Adapter.with_frames`. Each frame is encoded on its own."""
        pixels = media.inputs["pixel_values"]
        some = pixels[chosen.to(pixels.device)]
        return replace(media, layout=self._video(len(chosen)), inputs={**media.inputs, "pixel_values": some})

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. Images take a pass of the tower, and so do videos of each number of frames."""
        kinds = [len(item.inputs["pixel_values"]) if item.modality == "video" else 0 for item in media]
        found: dict[int, VisualTokens] = {}
        for kind in dict.fromkeys(kinds):
            places = [i for i, other in enumerate(kinds) if other == kind]
            encode = self._encode_videos if kind else self._encode_images
            found.update(zip(places, encode([media[i] for i in places], cues), strict=True))
        return [found[i] for i in range(len(media))]

    def _encode_videos(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        videos = torch.stack([item.inputs["pixel_values"] for item in media])
        with recording() as recorded:
            rows = self.model.base_model.get_video_features(videos, return_dict=True).pooler_output
        values = {cue: self._pooled(self._tower.cue(cue, recorded)).unflatten(0, videos.shape[:2]) for cue in cues}
        return [
            VisualTokens(row, item.layout, {cue: value[i].flatten(0, 1) for cue, value in values.items()})
            for i, (row, item) in enumerate(zip(rows, media, strict=True))
        ]

    def _pooled(self, values: Tensor) -> Tensor:
        """A signal `[frames, patches, ...]` by token; one that was taken behind the pooling is by token already."""
        side = self._tile.side
        if values.shape[1] != side * side:
            return values
        flat = values.float().flatten(2) if values.ndim > 2 else values.float()[..., None]
        maps = avg_pool2d(rearrange(flat, "n (h w) c -> n c h w", h=side), self._stride)
        return rearrange(maps, "n c h w -> n (h w) c").reshape(len(values), -1, *values.shape[2:])

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """See `Adapter.output`. The model flattens `[videos, tokens, D]`; it gets all tokens as one video."""
        if modality != "video":
            return super().output(modality, items)
        return BaseModelOutputWithPooling(pooler_output=torch.cat([item.features for item in items])[None])
