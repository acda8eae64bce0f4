"""Qwen2-VL and its successors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from vtc.adapters import Media, Qwen2VL, Qwen3VL, Qwen25VL, Qwen35

from .base import EngineModel, Family


class ServedQwen(EngineModel):
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


class Qwen35Family(QwenFamily, Qwen35):
    """Qwen3.5 and 3.6. No DeepStack."""

    mixed = frozenset({"video"})
