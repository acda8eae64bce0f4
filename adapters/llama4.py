"""Llama 4: features that the model itself projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtc.core.tokens import Embedded, VisualTokens

from .base import Media
from .generic import Generic


class Llama4(Generic):
    """Llama 4. A tile is an item; tokens are chosen by what the language model would get, after the projector.

    The model projects what it is handed, so that a plane carries the unprojected features beside those. The projector
    is linear: projected means of tokens are means of projected tokens.
    """

    classes = ("Llama4ForConditionalGeneration",)

    def _encode(self, media: Sequence[Media]) -> list[VisualTokens]:
        pixels = torch.stack([item.inputs["pixel_values"] for item in media])
        rows = self.model.get_image_features(pixels, return_dict=True).last_hidden_state
        parts = rows.reshape(len(media), -1, rows.shape[-1])
        projected = self.model.multi_modal_projector(parts)
        found = [VisualTokens(row, item.layout) for row, item in zip(projected, media, strict=True)]
        self._check_counts(media, projected)
        return [replace(tokens, planes=(plane,)) for tokens, plane in zip(found, parts, strict=True)]

    def output(self, modality: str, items: Sequence[Embedded]) -> BaseModelOutputWithPooling:
        """See `Adapter.output`."""
        return BaseModelOutputWithPooling(last_hidden_state=torch.cat([item.planes[0] for item in items])[None])
