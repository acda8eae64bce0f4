"""LLaVA-1.5, LLaVA-NeXT and LLaVA-OneVision: a CLIP or SigLIP tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

from torch import Tensor
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel, image_size_to_num_patches
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

from vtc.adapters import Llava, LlavaNext, LlavaOnevision, Media
from vtc.adapters.anyres import AnyRes
from vtc.adapters.cues import NAMES
from vtc.adapters.vision_tower import Tower, Towered
from vtc.core.tokens import VisualTokens
from vtc.recipes.composition import Recipe

from .base import EngineModel, Family

RATIO = "anyres_max_9"
"""The `vision_aspect_ratio` that vLLM has for LLaVA-OneVision, whatever the config says."""


class ServedLlava(EngineModel):
    """LLaVA-1.5: one tensor an image."""

    def get_image_features(self, pixels: Tensor, **_: Any) -> Any:
        """See transformers' method of that name."""
        return SimpleNamespace(pooler_output=list(self._encode(pixel_values=pixels)))


class ServedLlavaNext(EngineModel):
    """LLaVA-NeXT: one tensor an image, its thumbnail and tiles with their newlines."""

    def get_image_features(self, pixels: Tensor, sizes: Tensor, **_: Any) -> Any:
        """See transformers' method of that name. `pixels` are the tiles of all images, one after the other."""
        points, tile = self.config.image_grid_pinpoints, self.config.vision_config.image_size
        counts = [image_size_to_num_patches(size, points, tile) for size in sizes]
        return SimpleNamespace(
            pooler_output=list(self._encode(pixel_values=list(pixels.split(counts)), image_sizes=sizes))
        )

    def pack_image_features(self, values: Sequence[Tensor], sizes: Tensor, *arguments: Any, **options: Any) -> Any:
        """See transformers' method of that name, which reads the config alone."""
        itself: Any = self
        return LlavaNextModel.pack_image_features(itself, values, sizes, *arguments, **options)


class ServedLlavaOnevision(EngineModel):
    """LLaVA-OneVision: one tensor an image or a video."""

    def get_image_features(self, pixels: Tensor, sizes: Tensor, **_: Any) -> Any:
        """See transformers' method of that name. All images have as many tiles."""
        # Stacked: of a list, the stock model projects each image by itself, and a cue is what the last one was given.
        stacked = pixels.unflatten(0, (len(sizes), -1))
        return SimpleNamespace(pooler_output=list(self._encode(pixel_values=stacked, image_sizes=sizes)))

    def get_video_features(self, videos: Tensor, **_: Any) -> Any:
        """See transformers' method of that name."""
        return SimpleNamespace(pooler_output=list(self._encode(pixel_values_videos=videos)))

    def pack_image_features(self, values: Sequence[Tensor], sizes: Tensor, *arguments: Any, **options: Any) -> Any:
        """See transformers' method of that name, which reads the config alone."""
        itself: Any = self
        return LlavaOnevisionModel.pack_image_features(itself, values, sizes, *arguments, **options)


class FusedTower(Tower):
    """CLIP or SigLIP as vLLM builds it: no layers behind those that features are of, and one projection for q, k, v."""

    def _place(self, layers: int) -> int:
        return super()._place(int(self._model.config.vision_config.num_hidden_layers))

    @staticmethod
    def _projected(attention: Any, hidden: Tensor, which: str) -> Tensor:
        rows: Tensor = attention.qkv_proj(hidden)[0].chunk(3, dim=-1)["qkv".index(which)]
        return rows


class TowerFamily(Family, Towered):
    """A family whose encoder is such a tower."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._tower = FusedTower(model)

    @property
    def given_cues(self) -> frozenset[str]:
        """See `Family.given_cues`."""
        return frozenset(NAMES) if self._tower.has_cls else super().given_cues


class LlavaFamily(TowerFamily, Llava):
    """LLaVA-1.5. vLLM numbers positions compactly: no M-RoPE."""

    served = ServedLlava
    counted: ClassVar[Mapping[str, str]] = {"image": "pixel_values"}

    def items(self, batch: Mapping[str, Any]) -> list[Media]:
        """See `Family.items`."""
        return self.media({"pixel_values": batch["pixel_values"]})


class AnyResFamily(TowerFamily, AnyRes):
    """A family whose images come as a thumbnail and tiles."""

    counted: ClassVar[Mapping[str, str]] = {"image": "image_sizes"}

    def items(self, batch: Mapping[str, Any]) -> list[Media]:
        """See `Family.items`. Behind an image's tiles may stand some of zeros, by its neighbours in the processor."""
        return [
            item
            for pixels, size in zip(batch.get("pixel_values", ()), batch.get("image_sizes", ()), strict=True)
            for item in self.media({"pixel_values": pixels[: self._tiles(size)], "image_sizes": size[None]})
        ]

    def _tiles(self, size: Tensor) -> int:
        height, width = size.tolist()
        return self._counts({}, [(height, width)])[0]


class LlavaNextFamily(AnyResFamily, LlavaNext):
    """LLaVA-NeXT. vLLM numbers positions compactly: no M-RoPE."""

    served = ServedLlavaNext


class LlavaOnevisionFamily(AnyResFamily, LlavaOnevision):
    """LLaVA-OneVision. In vLLM each image comes in tiles, whether its prompt has others or not.

    vLLM numbers positions compactly: no M-RoPE.
    """

    served = ServedLlavaOnevision
    counted: ClassVar[Mapping[str, str]] = {"image": "image_sizes", "video": "pixel_values_videos"}

    def items(self, batch: Mapping[str, Any]) -> list[Media]:
        """See `Family.items`."""
        videos = batch.get("pixel_values_videos", ())
        return super().items(batch) + [item for v in videos for item in self.media({"pixel_values_videos": v[None]})]

    def check_recipe(self, recipe: Recipe) -> None:
        """See `Family.check_recipe`."""
        super().check_recipe(recipe)
        ratio = self.model.config.vision_aspect_ratio
        if ratio != RATIO:
            raise ValueError(
                f"vision_aspect_ratio={ratio!r}: vLLM shrinks the tiles of large images as {RATIO!r}, whatever the "
                "config says; serve this checkpoint without vtc"
            )

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`. Items with as many tiles, or frames, take a pass of the tower together."""
        kinds = [(item.modality, len(item.inputs["pixel_values"])) for item in media]
        found: dict[int, VisualTokens] = {}
        for kind in dict.fromkeys(kinds):
            places = [i for i, other in enumerate(kinds) if other == kind]
            found.update(zip(places, super().encode([media[i] for i in places], cues), strict=True))
        return [found[i] for i in range(len(media))]
