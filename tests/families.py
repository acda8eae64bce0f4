"""Small random models of each family, with spread weights, and prompts for them.

Default initialisation (std .02) makes attention uniform and hides mistakes, so weights are drawn at 1 / sqrt(fan in).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SiglipVisionConfig,
)

PAD, BOS, EOS, IMAGE, VIDEO, START, END, VOCAB = 0, 1, 2, 90, 93, 91, 92, 100
TEXT = dict(
    vocab_size=VOCAB,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    pad_token_id=PAD,
    bos_token_id=BOS,
    eos_token_id=EOS,
)
VISION = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2)


def spread(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim >= 2:
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                value.copy_(0.1 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
    return model.eval()


def llava(attention: str = "sdpa", seed: int = 0, *, tower: str = "clip", strategy: str = "default") -> nn.Module:
    kind = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig}[tower]
    config = LlavaConfig(
        vision_config=kind(**VISION, image_size=42, patch_size=7),
        text_config=LlamaConfig(**TEXT),
        image_token_index=IMAGE,
        vision_feature_select_strategy="full" if tower == "siglip" else strategy,
    )
    return spread(LlavaForConditionalGeneration._from_config(config, attn_implementation=attention), seed)


def qwen25vl(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    vision = dict(
        depth=3,
        hidden_size=32,
        intermediate_size=64,
        num_heads=2,
        patch_size=4,
        spatial_merge_size=2,
        temporal_patch_size=2,
        window_size=16,
        out_hidden_size=64,
        fullatt_block_indexes=[1],
    )
    rope = dict(rope_type="default", rope_theta=10000.0, mrope_section=[2, 3, 3])
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config={**TEXT, "rope_parameters": rope},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
    )
    return spread(Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation=attention), seed)


def text(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 89, (length,), generator=generator).tolist()


def padded(rows: Sequence[Sequence[int]], side: str = "left") -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), PAD)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, place] = torch.tensor(row)
        mask[i, place] = 1
    return ids, mask


Row = Sequence[Any]
"""A prompt: an int is that many text tokens, anything else describes an image."""


def llava_inputs(rows: Sequence[Row], side: str = "left", *, tokens: int = 36) -> dict[str, torch.Tensor]:
    """Each image is a number that seeds its pixels."""
    ids, pixels = [], []
    for r, row in enumerate(rows):
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
            else:
                seed = int(part[0])
                line += [IMAGE] * tokens
                pixels.append(torch.randn(3, 42, 42, generator=torch.Generator().manual_seed(seed)))
        ids.append(line)
        del r
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask)
    if pixels:
        out["pixel_values"] = torch.stack(pixels)
    return out


def qwen_inputs(rows: Sequence[Row], side: str = "left") -> dict[str, torch.Tensor]:
    """Each image is (seed,) with a size made from the seed, or (seed, height, width) in patches."""
    ids, patches, grids = [], [], []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
                continue
            seed = int(part[0])
            h, w = part[1:] if len(part) > 1 else (4 + 2 * (seed % 3), 8)
            generator = torch.Generator().manual_seed(seed)
            line += [START] + [IMAGE] * (h * w // 4) + [END]
            patches.append(torch.randn(h * w, 3 * 2 * 4 * 4, generator=generator))
            grids.append((1, h, w))
        ids.append(line)
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask, mm_token_type_ids=(input_ids == IMAGE).int())
    if patches:
        out |= dict(pixel_values=torch.cat(patches), image_grid_thw=torch.tensor(grids))
    return out


@dataclass(frozen=True)
class Family:
    """A family in the shared checks: how to build a small model of it, and prompts."""

    name: str
    build: Callable[..., nn.Module]
    inputs: Callable[..., dict[str, torch.Tensor]]
    has_cls: bool


FAMILIES = (
    Family("llava", llava, llava_inputs, has_cls=True),
    Family("qwen25vl", qwen25vl, qwen_inputs, has_cls=False),
)
