"""Fuyu: a placeholder is a patch, a row of them a row of the image (`FuyuForCausalLM`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtc.core.tokens import Embedded, VisualTokens

from .base import Media
from .generic import Generic
from .placeholders import PlaceholderRun, arranged, runs


class Fuyu(Generic):
    """Fuyu, which has no encoder: a patch is projected. Rows of patches are parted by a newline in the prompt.

    Of a prompt with several images, runs that more than one token parts are of different images.
    """

    classes = ("FuyuForCausalLM",)

    def media(self, inputs: Mapping[str, Any]) -> list[Media]:
        """See `Adapter.media`. `pixel_values` is `[rows, patches, values]`, filled up behind a row's own patches."""
        pixels, ids = inputs.get("pixel_values"), inputs.get("input_ids")
        if pixels is None:
            return []
        if not isinstance(ids, Tensor) or pixels.ndim != 3 or len(pixels) != len(ids):
            raise ValueError(
                f"pixel_values is {tuple(pixels.shape)}; expected a tensor [rows, patches, values], a row of patches "
                "for each row of input_ids"
            )
        found = runs(ids.tolist(), self.placeholders["image"])
        return [item for r in range(len(ids)) for item in _row(pixels[r], [run for run in found if run.row == r])]

    def encode(self, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
        """See `Adapter.encode`."""
        if not media:
            return []
        pixels = torch.cat([item.inputs["pixel_values"] for item in media])[None]
        rows = self.model.base_model.get_image_features(pixels, return_dict=True).last_hidden_state[0]
        parts = rows.split([len(item.layout) for item in media])
        return [VisualTokens(part, item.layout) for part, item in zip(parts, media, strict=True)]

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """See `Adapter.output`."""
        return BaseModelOutputWithPooling(last_hidden_state=torch.cat([item.features for item in items])[None])


def _row(pixels: Tensor, found: Sequence[PlaceholderRun]) -> list[Media]:
    """The images of one row of the batch: runs that one token parts are lines of one image."""
    images = [[found[0].length]] if found else []
    for one, other in pairwise(found):
        if other.start == one.start + one.length + 1:
            images[-1].append(other.length)
        else:
            images.append([other.length])
    counts = [sum(lines) for lines in images]
    if sum(counts) > len(pixels):
        raise ValueError(
            f"pixel_values holds {len(pixels)} patches for a row of input_ids with {sum(counts)} placeholders; pass "
            "ids and pixels of one processor call"
        )
    parts = pixels[: sum(counts)].split(counts)
    return [
        Media("image", arranged(tuple(lines), len(lines), lines[0]), {"pixel_values": part})
        for lines, part in zip(images, parts, strict=True)
    ]
