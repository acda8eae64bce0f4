"""LLaVA-OneVision: one image in tiles, several images, videos (`LlavaOnevisionForConditionalGeneration`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtc.core.tokens import (
    Box,
    Embedded,
    Layout,
    VisualTokens,
)

from .anyres import AnyRes, at_hand, with_structural
from .base import Media
from .cues import recording
from .rows import with_separator
from .tiles import Size, surviving, tiled


class LlavaOnevision(AnyRes):
    """LLaVA-OneVision with a SigLIP tower (no CLS) or a CLIP tower (CLS).

    - An image that is its prompt's only one: a thumbnail and tiles, as LLaVA-NeXT has them. Where they would be more
      tokens than `vision_aspect_ratio` allows, the raster over the tiles is shrunk, and a token counts to the tile that
      its middle lies in.
    - Images of a prompt with several (by `batch_num_images`): each padded to a square and encoded at once; one unit.
    - A video: each frame is a unit, its tokens pooled 2 x 2.

    Images without tiles and videos end in one newline; tiles have one after each row.
    """

    classes = ("LlavaOnevisionForConditionalGeneration",)
    media_arguments = (
        "pixel_values",
        "image_sizes",
        "pixel_values_videos",
        "image_sizes_videos",
        "batch_num_images",
        "vision_aspect_ratio",
        "vision_feature_layer",
        "vision_feature_select_strategy",
    )

    videos = True

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {"image": int(self.model.config.image_token_id), "video": int(self.model.config.video_token_id)}

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. Images as in LLaVA-NeXT; `pixel_values_videos` is `[videos, frames, 3, H, W]`."""
        own = self.model.config.vision_aspect_ratio
        if inputs.get("vision_aspect_ratio") not in (None, own):
            raise ValueError(
                f"vision_aspect_ratio={inputs['vision_aspect_ratio']!r} differs from the model's, {own!r}; set it in "
                "model.config instead"
            )
        return self._images(inputs) + self._videos(inputs)

    def _counts(self, inputs: Mapping[str, Any], sizes: Sequence[Size]) -> list[int]:
        found = super()._counts(inputs, sizes)
        given = inputs.get("batch_num_images")
        if given is None:
            return found
        numbers = torch.as_tensor(given).tolist()
        if sum(numbers) != len(sizes):
            raise ValueError(
                f"batch_num_images={numbers} counts {sum(numbers)} images, but image_sizes describes {len(sizes)}; "
                "pass both from one processor call"
            )
        only = [number == 1 for number in numbers for _ in range(number)]
        return [count if alone else 1 for count, alone in zip(found, only, strict=True)]

    def _videos(self, inputs: Mapping[str, Any]) -> list[Media]:
        videos = inputs.get("pixel_values_videos")
        if videos is None:
            return []
        if not isinstance(videos, Tensor) or videos.ndim != 5:
            shape = tuple(videos.shape) if isinstance(videos, Tensor) else type(videos).__name__
            raise ValueError(
                f"pixel_values_videos is {shape}; expected a tensor [videos, frames, channels, height, width]"
            )
        self._tower.check(inputs)
        layout = self._video(videos.shape[1])
        return [Media("video", layout, {"pixel_values": frames}) for frames in videos]

    def _video(self, frames: int) -> Layout:
        side = math.ceil(self._tile.side / 2)
        share = self._tile.share
        return with_separator(
            Layout.join([Layout.of_grid(side, side, kind="frame", box=(0.0, 0.0, share, share))] * frames)
        )

    def frames(self, media: Media) -> Tensor:
        """See `Adapter.frames`."""
        return media.inputs["pixel_values"][:, None]

    def with_frames(self, media: Media, chosen: Tensor) -> Media:
        """See `Adapter.with_frames`. Each frame is encoded on its own."""
        pixels = media.inputs["pixel_values"]
        some = pixels[chosen.to(pixels.device)]
        return replace(media, layout=self._video(len(chosen)), inputs={**media.inputs, "pixel_values": some})

    def _layout(self, image: Size, tiles: int) -> Layout:
        side = self._tile.side
        if tiles == 1:
            return with_separator(Layout.of_grid(side, side, box=_squared(image, self._tile.share)))
        canvas = self._canvas(image)
        rows, columns = surviving(image, (canvas[0] * side, canvas[1] * side))
        most = int(self.model.config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = math.sqrt(len(rows) * len(columns) / (most * side**2))
        raster = (int(len(rows) // ratio), int(len(columns) // ratio)) if ratio > 1.1 else None
        return tiled(self._tile, image, canvas, raster)

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. Images with tiles, images without, and videos take a pass of the tower each."""
        kinds = [(item.modality, _pass(item)) for item in media]
        found: dict[int, VisualTokens] = {}
        for kind in dict.fromkeys(kinds):
            places = [i for i, other in enumerate(kinds) if other == kind]
            encode = self._encode_videos if kind[0] == "video" else self._encode_images
            found.update(zip(places, encode([media[i] for i in places], cues), strict=True))
        return [found[i] for i in range(len(media))]

    def _features(self, pixels: Tensor, sizes: Tensor) -> Sequence[Tensor]:
        tiles = len(pixels) > len(sizes)
        # A count other than 1 tells the model that images have no tiles; it may count more than there are.
        numbers = [1] * len(sizes) if tiles else [max(2, len(sizes))]
        encode = self.model.base_model.get_image_features
        return encode(pixels, sizes, batch_num_images=numbers, return_dict=True).pooler_output

    def _packed(self, values: Sequence[Tensor], sizes: Tensor) -> Sequence[Tensor]:
        ratio = self.model.config.vision_aspect_ratio
        parts = [part.float() for part in values]
        return self.model.base_model.pack_image_features(parts, sizes, vision_aspect_ratio=ratio)[0]

    def _encode_videos(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        videos = torch.stack([item.inputs["pixel_values"] for item in media])
        with recording() as recorded, at_hand(self.model.base_model):
            features = self.model.base_model.get_video_features(videos, return_dict=True).pooler_output
        values = {cue: self._pooled(self._tower.cue(cue, recorded)).unflatten(0, videos.shape[:2]) for cue in cues}
        return [
            VisualTokens(
                row, item.layout, {cue: with_structural(item.layout, v[i].flatten(0, 1)) for cue, v in values.items()}
            )
            for i, (row, item) in enumerate(zip(features, media, strict=True))
        ]

    def _pooled(self, values: Tensor) -> Tensor:
        """A signal of patches, `[frames, patches, ...]`, as the model pools features: `[frames, tokens, ...]` fp32."""
        pool = self.model.base_model.apply_pooling
        return pool(values.float()) if values.ndim > 2 else pool(values.float()[..., None])[..., 0]

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """See `Adapter.output`. The model flattens a tensor `[videos, tokens, D]`; it gets all tokens as one video."""
        if modality != "video":
            return super().output(modality, items)
        return BaseModelOutputWithPooling(pooler_output=torch.cat([item.features for item in items])[None])


def _pass(media: Media) -> int:
    """Return the grouping key of one pass of the tower: a video's frames, or whether an image has tiles."""
    pixels = media.inputs["pixel_values"]
    return len(pixels) if media.modality == "video" else int(len(pixels) == 1)


def _squared(image: Size, share: float) -> Box:
    """The box of an image that is padded to a square, of which the tokens cover a `share` from the top left."""
    (height, width), side = image, max(image)
    top, left = (side - height) // 2, (side - width) // 2
    return (-top / height, -left / width, (side * share - top) / height, (side * share - left) / width)
