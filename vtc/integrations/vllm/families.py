"""What the plugin knows of each family: its items, in the processor's output and in a worker's batch alike, and how the
adapter finds in vLLM's modules what it looks for in those of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vtc.adapters import InternVL, Llava, Media, Qwen2VL, Qwen3VL, Qwen25VL
from vtc.adapters.internvl import layout_of_tiles
from vtc.adapters.vision_tower import Tower
from vtc.recipes.composition import Recipe
from vtc.stages import Resizer

Encode = Callable[..., Any]
"""A stock model's `embed_multimodal`."""


class GeometryOnly:
    """A config in a model's place: all that layouts and counts need, in the API server, which has no model."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def base_model(self) -> GeometryOnly:
        """The object itself, where an adapter looks for towers once it encodes."""
        return self


class ServedModel(GeometryOnly):
    """A model of vLLM as an adapter asks for one: its config, its towers by their names, its encoder."""

    def __init__(self, model: nn.Module, encode: Encode) -> None:
        super().__init__(model.config)
        self._model, self._encode = model, encode

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_model"], name)


class Family:
    """Mixin ahead of an adapter: how its items come in vLLM.

    Attributes:
        served: what stands in for the model.
        counted: the modalities that are reduced, and for each a field of which every item has one entry.
        mixed: of these, those whose placeholders have text between them, which the model class embeds too.
        sizes: whether the vision tower takes images of any size, so that an input stage may resize them.
    """

    served: ClassVar[type[ServedModel]]
    counted: ClassVar[Mapping[str, str]]
    mixed: ClassVar[frozenset[str]] = frozenset()
    sizes: ClassVar[bool] = False

    def items(self, batch: Mapping[str, Any]) -> list[Media]:
        """The items of a batch of one modality, by the stock model's names."""
        return self.media({name: value for name, value in batch.items() if name in self.media_arguments})  # type: ignore[attr-defined, no-any-return]

    def check_recipe(self, recipe: Recipe) -> None:
        """Refuse what the family cannot do in vLLM.

        Raises:
            ValueError: with the reason.
        """
        if isinstance(recipe.input, Resizer) and not self.sizes:
            raise ValueError(
                f"recipe {recipe.name!r} cannot be served by vLLM on this model: its vision tower takes images of one "
                "size there; use a selector such as 'kcenter'"
            )


class ServedQwen(ServedModel):
    """Qwen2-VL and its successors: the tower's rows, one tensor an item."""

    def get_image_features(self, pixels: Tensor, grids: Tensor, **_: Any) -> Any:
        """See transformers' method of that name."""
        return self._output(self._encode(pixel_values=pixels, image_grid_thw=grids))

    def get_video_features(self, pixels: Tensor, grids: Tensor, **_: Any) -> Any:
        """See transformers' method of that name."""
        seconds = torch.ones(len(grids))  # required by the schema of Qwen2.5-VL; its tower does not look at times
        return self._output(self._encode(pixel_values_videos=pixels, video_grid_thw=grids, second_per_grid_ts=seconds))

    def _output(self, rows: Any) -> Any:
        return SimpleNamespace(pooler_output=rows)


class ServedQwen3(ServedQwen):
    """Qwen3-VL: behind each row of the tower's output stand its DeepStack planes."""

    def _output(self, rows: Any) -> Any:
        width = int(self.config.vision_config.out_hidden_size)
        planes = [[row.split(width, dim=1)[i] for row in rows] for i in range(1, rows[0].shape[1] // width)]
        return SimpleNamespace(pooler_output=[row[:, :width] for row in rows], deepstack_features=planes)


class ServedLlava(ServedModel):
    """LLaVA-1.5: one tensor an image."""

    def get_image_features(self, pixels: Tensor, **_: Any) -> Any:
        """See transformers' method of that name."""
        return SimpleNamespace(pooler_output=list(self._encode(pixel_values=pixels)))


class ServedInternVL(ServedModel):
    """InternVL: each tile goes through the tower as an image of its own."""

    def get_image_features(self, pixels: Tensor, **_: Any) -> Any:
        """See transformers' method of that name."""
        ones = torch.ones(len(pixels), dtype=torch.int64)
        token = self.config.image_token_id
        rows = self._encode(pixel_values=pixels, image_num_patches=ones, image_token_id=token)
        return SimpleNamespace(pooler_output=torch.stack(list(rows)))


class QwenFamily(Family):
    """Qwen2-VL as vLLM builds it: a projection answers a tuple, and angles are half as wide."""

    served = ServedQwen
    counted: ClassVar[Mapping[str, str]] = {"image": "image_grid_thw", "video": "video_grid_thw"}
    sizes = True

    def _unpatch(self, media: Media) -> Tensor:
        pixels = media.inputs["pixel_values"]
        if pixels.dtype == torch.uint8:  # raw where the device normalises: stages are shown what the tower sees
            pixels = self._visual.input_norm(pixels, torch.float32)  # type: ignore[attr-defined]
        return super()._unpatch(replace(media, inputs={**media.inputs, "pixel_values": pixels}))  # type: ignore[misc, no-any-return]

    def _queries_and_keys(self, attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
        queries, keys, _ = attention.qkv(hidden)[0].flatten(0, -2).chunk(3, dim=-1)
        return queries, keys

    def _heads_and_scale(self, attention: Any) -> tuple[int, float]:
        return attention.num_attention_heads_per_partition, attention.hidden_size_per_attention_head**-0.5

    def _angles(self, arguments: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        cos, sin = (arguments[f"rotary_pos_emb_{part}"].repeat(1, 2) for part in ("cos", "sin"))
        return cos, sin


class Qwen2Family(QwenFamily, Qwen2VL):
    """Qwen2-VL."""


class Qwen25Family(QwenFamily, Qwen25VL):
    """Qwen2.5-VL."""


class Qwen3Family(QwenFamily, Qwen3VL):
    """Qwen3-VL. The frames of a video stand apart in the prompt, each behind its time."""

    served = ServedQwen3
    mixed = frozenset({"video"})


class ClipTower(Tower):
    """CLIP as vLLM builds it: no layer behind the one whose output is the feature, and one projection for q, k, v."""

    def _place(self, layers: int) -> int:
        return layers - 1

    @staticmethod
    def _projected(attention: Any, hidden: Tensor, which: str) -> Tensor:
        rows: Tensor = attention.qkv_proj(hidden)[0].chunk(3, dim=-1)["qkv".index(which)]
        return rows


class LlavaFamily(Family, Llava):
    """LLaVA-1.5 with a CLIP tower."""

    served = ServedLlava
    counted: ClassVar[Mapping[str, str]] = {"image": "pixel_values"}

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._tower = ClipTower(model)

    def items(self, batch: Mapping[str, Any]) -> list[Media]:
        """See `Family.items`."""
        return self.media({"pixel_values": batch["pixel_values"]})


class InternVLFamily(Family, InternVL):
    """InternVL in transformers' format. Here each item says how many tiles it has, so that no prompt is needed."""

    served = ServedInternVL
    counted: ClassVar[Mapping[str, str]] = {"image": "image_num_patches"}

    def items(self, batch: Mapping[str, Any]) -> list[Media]:
        """See `Family.items`."""
        pixels = batch["pixel_values"]
        counts, side = batch["image_num_patches"].tolist(), self._side(pixels)
        return [Media("image", layout_of_tiles(tiles, side), {"pixel_values": tiles}) for tiles in pixels.split(counts)]
