"""LLaVA-1.5 with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

from tests.families.common import (
    BOS,
    IMAGE,
    TEXT,
    VISION,
    Family,
    Row,
    padded,
    spread,
    text,
)


def llava(attention: str = "sdpa", seed: int = 0, *, tower: str = "clip", strategy: str = "default") -> nn.Module:
    kind = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig}[tower]
    config = LlavaConfig(
        vision_config=kind(**VISION, image_size=42, patch_size=7),
        text_config=LlamaConfig(**TEXT),
        image_token_index=IMAGE,
        vision_feature_select_strategy="full" if tower == "siglip" else strategy,
    )
    return spread(LlavaForConditionalGeneration._from_config(config, attn_implementation=attention), seed)


def llava_inputs(rows: Sequence[Row], side: str = "left", *, tokens: int = 36) -> dict[str, torch.Tensor]:
    """Each image is a number that seeds its pixels."""
    ids, pixels = [], []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
            else:
                seed = int(part[0])
                line += [IMAGE] * tokens
                pixels.append(torch.randn(3, 42, 42, generator=torch.Generator().manual_seed(seed)))
        ids.append(line)
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask)
    if pixels:
        out["pixel_values"] = torch.stack(pixels)
    return out


LLAVA = Family("llava", llava, llava_inputs, has_cls=True, resizes=True, folds="fewer")
LLAVA_VARIANTS = (
    Family("llava-siglip", partial(llava, tower="siglip"), llava_inputs, resizes=True, folds="fewer"),
    Family(
        "llava-full",
        partial(llava, strategy="full"),
        partial(llava_inputs, tokens=37),
        has_cls=True,
        resizes=True,
        folds="fewer",
    ),
)
