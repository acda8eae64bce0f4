"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL with random weights, for images and for videos."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

from tests.families.common import (
    BOS,
    END,
    IMAGE,
    START,
    TEXT,
    VIDEO,
    Family,
    Row,
    padded,
    spread,
    text,
)

ROPE = dict(rope_type="default", rope_theta=10000.0, mrope_section=[2, 3, 3])
TOKENS = dict(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=START, vision_end_token_id=END)
VISION = dict(depth=3, num_heads=2, patch_size=4, spatial_merge_size=2, temporal_patch_size=2)

QWEN3_VISION = dict(
    **VISION,
    hidden_size=32,
    intermediate_size=64,
    out_hidden_size=64,
    num_position_embeddings=36,
    deepstack_visual_indexes=[0, 1],
)


def qwen2vl(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    vision = dict(**VISION, embed_dim=32, hidden_size=64, mlp_ratio=2)
    config = Qwen2VLConfig(vision_config=vision, text_config={**TEXT, "rope_parameters": ROPE}, **TOKENS)
    return spread(Qwen2VLForConditionalGeneration._from_config(config, attn_implementation=attention), seed)


def qwen25vl(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    vision = dict(
        **VISION, hidden_size=32, intermediate_size=64, window_size=16, out_hidden_size=64, fullatt_block_indexes=[1]
    )
    config = Qwen2_5_VLConfig(vision_config=vision, text_config={**TEXT, "rope_parameters": ROPE}, **TOKENS)
    return spread(Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation=attention), seed)


def qwen3vl(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    rope = {**ROPE, "mrope_interleaved": True}
    config = Qwen3VLConfig(
        vision_config=QWEN3_VISION, text_config={**TEXT, "head_dim": 16, "rope_parameters": rope}, **TOKENS
    )
    return spread(Qwen3VLForConditionalGeneration._from_config(config, attn_implementation=attention), seed)


def qwen3vl_moe(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    experts = dict(head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=48)
    text_config = {**TEXT, **experts, "rope_parameters": {**ROPE, "mrope_interleaved": True}}
    config = Qwen3VLMoeConfig(vision_config=QWEN3_VISION, text_config=text_config, **TOKENS)
    return spread(Qwen3VLMoeForConditionalGeneration._from_config(config, attn_implementation=attention), seed)


def qwen_inputs(
    rows: Sequence[Row], side: str = "left", *, videos: bool = False, timestamps: bool = False, seconds: bool = False
) -> dict[str, torch.Tensor]:
    """Prompts as the processors write them.

    An image is (seed,) with a size made from the seed, or (seed, height, width) in patches; (seed, frames, height,
    width) is a video.

    Args:
        rows: the prompts.
        side: of the padding.
        videos: makes a video of each image.
        timestamps: whether text stands between the frames of a video (Qwen3-VL).
        seconds: whether videos come with their seconds per frame (Qwen2.5-VL).
    """
    ids, pixels, grids, steps = [], {IMAGE: [], VIDEO: []}, {IMAGE: [], VIDEO: []}, []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
                continue
            frames, h, w = _size(part, videos)
            kind = IMAGE if frames == 0 else VIDEO
            line += _placed(kind, frames, h * w // 4, timestamps)
            generator = torch.Generator().manual_seed(int(part[0]))
            pixels[kind].append(torch.randn(max(frames, 1) * h * w, 3 * 2 * 4 * 4, generator=generator))
            grids[kind].append((max(frames, 1), h, w))
            steps += [0.5 + 0.5 * (int(part[0]) % 3)] * (kind == VIDEO)
        ids.append(line)
    input_ids, mask = padded(ids, side)
    types = (input_ids == IMAGE).int() + 2 * (input_ids == VIDEO).int()
    out = dict(input_ids=input_ids, attention_mask=mask, mm_token_type_ids=types)
    if pixels[IMAGE]:
        out |= dict(pixel_values=torch.cat(pixels[IMAGE]), image_grid_thw=torch.tensor(grids[IMAGE]))
    if pixels[VIDEO]:
        out |= dict(pixel_values_videos=torch.cat(pixels[VIDEO]), video_grid_thw=torch.tensor(grids[VIDEO]))
        if seconds:
            out["second_per_grid_ts"] = torch.tensor(steps)
    return out


def _size(part: Any, videos: bool) -> tuple[int, int, int]:
    """Frames (0 for an image), height and width in patches."""
    seed = int(part[0])
    if len(part) == 4:
        return part[1:]
    h, w = part[1:] if len(part) > 1 else (4 + 2 * (seed % 3), 8)
    # A video of one token a frame has one frame, so that input stages, which drop none, can be asked for a share of it.
    return (0 if not videos else 1 if h * w == 4 else 1 + seed % 3), h, w


def _placed(kind: int, frames: int, count: int, timestamps: bool) -> list[int]:
    """The ids of one item."""
    if frames == 0 or not timestamps:
        return [START] + [kind] * (max(frames, 1) * count) + [END]
    return [t for f in range(frames) for t in (*text(1 + f % 2, 700 + f), START, *[kind] * count, END)]


QWEN3_MOE = Family("qwen3vl-moe", qwen3vl_moe, qwen_inputs, resizes=True, axes=3)
QWEN = (
    Family("qwen2vl", qwen2vl, qwen_inputs, resizes=True, axes=3, follows=True),
    Family("qwen25vl", qwen25vl, qwen_inputs, resizes=True, axes=3),
    Family(
        "qwen25vl-video", qwen25vl, partial(qwen_inputs, videos=True, seconds=True), resizes=True, videos=True, axes=3
    ),
    Family("qwen3vl", qwen3vl, qwen_inputs, resizes=True, axes=3),
    Family(
        "qwen3vl-video", qwen3vl, partial(qwen_inputs, videos=True, timestamps=True), resizes=True, videos=True, axes=3
    ),
)
