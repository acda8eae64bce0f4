"""VideoLLaMA 3: images and videos with grids, merged by a factor of their own each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vtc.core.tokens import Layout, VisualTokens

from .base import Media
from .generic import GenericGrid

MASK = "video_compression_mask"


class VideoLlama3(GenericGrid):
    """VideoLLaMA 3. Of a video each frame is a unit.

    Where the processor has dropped tokens of a video already, with the mask that it gives, those that it left are the
    item's. The encoder gives no cues.
    """

    classes = ("VideoLlama3ForConditionalGeneration",)

    @property
    def _merge(self) -> int:
        return 1

    def _items(self, inputs: Mapping[str, Any], modality: str) -> list[Media]:
        items, name = super()._items(inputs, modality), f"{modality}_merge_sizes"
        merges, mask = inputs.get(name), inputs.get(MASK)
        if not items:
            return []
        if merges is None or len(merges) != len(items):
            raise ValueError(
                f"{name}={merges}: expected one factor for each of {len(items)} {modality}s; pass all that the "
                "processor returned"
            )
        found = [
            replace(item, layout=_merged(item, int(merge)), inputs={**item.inputs, "merge_size": merge})
            for item, merge in zip(items, torch.as_tensor(merges), strict=True)
        ]
        return found if modality == "image" or mask is None else _left_by(torch.as_tensor(mask), found)

    def _encode(self, media: Sequence[Media], modality: str, cues: Sequence[str]) -> list[VisualTokens]:
        pixels = torch.cat([item.inputs["pixel_values"] for item in media])
        grids, merges = (torch.stack([item.inputs[name] for item in media]) for name in ("grid_thw", "merge_size"))
        encode = getattr(self.model.base_model, f"get_{modality}_features")
        parts = encode(pixels, grids, merges.to(grids), return_dict=True).pooler_output
        return [
            VisualTokens(part[item.inputs[MASK]] if MASK in item.inputs else part, item.layout)
            for part, item in zip(parts, media, strict=True)
        ]


def _left_by(mask: Tensor, videos: Sequence[Media]) -> list[Media]:
    """Videos with the tokens that the processor's mask `[tokens of all]` has left."""
    counts = [len(item.layout) for item in videos]
    if sum(counts) != len(mask):
        raise ValueError(
            f"{MASK} has {len(mask)} entries, and the videos have {counts} tokens; pass both from one processor call"
        )
    return [
        replace(item, layout=item.layout.take(own.cpu().nonzero().flatten()), inputs={**item.inputs, MASK: own})
        for item, own in zip(videos, mask.split(counts), strict=True)
    ]


def _merged(item: Media, merge: int) -> Layout:
    frames, height, width = item.inputs["grid_thw"].tolist()
    size = (height // merge, width // merge)
    if item.modality == "image":
        return Layout.of_grid(*size, frames=frames)
    return Layout.join([Layout.of_grid(*size, kind="frame")] * frames)
