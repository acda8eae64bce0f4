"""Video-LLaVA: images and videos, a tower for each (`VideoLlavaForConditionalGeneration`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vtc.core.tokens import Layout, VisualTokens

from .base import Media
from .generic import Generic

ALIAS = "pixel_values_images"
"""The name that processors gave to images, and the model took before transformers 5.24."""


class VideoLlava(Generic):
    """Video-LLaVA. Of a video each frame is a unit, whose class token always goes on: no frame can be left out.

    The encoder gives no cues.
    """

    classes = ("VideoLlavaForConditionalGeneration",)

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._listed = False
        self.media_arguments = (*self.media_arguments, ALIAS)
        vision = self.model.config.vision_config
        self._side = int(vision.image_size) // int(vision.patch_size)
        if self.model.config.vision_feature_select_strategy != "default":
            raise ValueError(
                f"vision_feature_select_strategy={self.model.config.vision_feature_select_strategy!r} of the config "
                "passes on the class tokens of images; set it to 'default'"
            )

    @property
    def placeholders(self) -> dict[str, int]:
        """See `Adapter.placeholders`."""
        return {"image": int(self.model.config.image_token_id), "video": int(self.model.config.video_token_id)}

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. Images are `[images, 3, H, W]`, videos `[videos, frames, 3, H, W]`."""
        self._refuse({name: value for name, value in inputs.items() if name not in (ALIAS, "pixel_values_videos")})
        images = inputs.get("pixel_values") if inputs.get(ALIAS) is None else inputs[ALIAS]
        videos = inputs.get("pixel_values_videos")
        for name, pixels, axes in (("pixel_values", images, 4), ("pixel_values_videos", videos, 5)):
            if pixels is not None and (not isinstance(pixels, Tensor) or pixels.ndim != axes):
                raise ValueError(f"{name} is no tensor of {axes} axes; use the checkpoint's own processor")
        found = [] if images is None else [Media("image", self._image(), {"pixel_values": own}) for own in images]
        return found + ([] if videos is None else [_video(own, self._image()) for own in videos])

    def _image(self) -> Layout:
        return Layout.of_grid(self._side, self._side)

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. Videos of as many frames go through the tower together."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, item in enumerate(media):
            groups.setdefault(tuple(item.inputs["pixel_values"].shape), []).append(i)
        found: dict[int, VisualTokens] = {}
        for places in groups.values():
            pixels = torch.stack([media[i].inputs["pixel_values"] for i in places])
            encode = getattr(self.model.base_model, f"get_{media[places[0]].modality}_features")
            parts = encode(pixels, return_dict=True).pooler_output.unflatten(0, (len(places), -1)).flatten(1, 2)
            self._check_counts([media[i] for i in places], parts)
            found.update({i: VisualTokens(part, media[i].layout) for i, part in zip(places, parts, strict=True)})
        return [found[i] for i in range(len(media))]


def _video(pixels: Tensor, image: Layout) -> Media:
    """A video `[frames, 3, H, W]`: of each frame a class token, then its grid."""
    frame = replace(
        image,
        unit=torch.cat([image.unit[:1], image.unit]),
        cell=torch.cat([image.cell.new_full((1, 3), -1), image.cell]),
        structural=torch.cat([torch.ones(1, dtype=torch.bool), image.structural]),
        kinds=("frame",),
    )
    return Media("video", Layout.join([frame] * len(pixels)), {"pixel_values": pixels})
