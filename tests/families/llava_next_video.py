"""LLaVA-NeXT-Video with random weights: images as LLaVA-NeXT has them, and videos of 2 x 2 tokens a frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration

from tests.families.common import BOS, IMAGE, TEXT, VIDEO, VISION, Family, Row, padded, spread, text
from tests.families.llava_next import PATCH, SIDE, llava_next_inputs, pinpoints, quiet, tiles_of

FRAMES, POOLED = 3, SIDE // 2


def config() -> LlavaNextVideoConfig:
    size = PATCH * SIDE
    return LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(**VISION, image_size=size, patch_size=PATCH),
        text_config=LlamaConfig(**TEXT),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=pinpoints(size),
        spatial_pool_stride=2,
    )


def llava_next_video(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    made = LlavaNextVideoForConditionalGeneration._from_config(config(), attn_implementation=attention)
    return quiet(spread(made, seed))


def videos(rows: Sequence[Row], side: str = "left") -> dict[str, Tensor]:
    """A video of each image; all of a call have the same length."""
    ids, pixels = [], []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
                continue
            line += [VIDEO] * (FRAMES * POOLED**2)
            pixels.append(tiles_of(part, FRAMES, PATCH * SIDE))
        ids.append(line)
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask)
    return {**out, "pixel_values_videos": torch.stack(pixels)} if pixels else out


LLAVA_NEXT_VIDEO = (
    Family(
        "llava-next-video-images",
        llava_next_video,
        llava_next_inputs,
        has_cls=True,
        thumbnails=True,
        folds="spread",
        follows=True,
    ),
    Family(
        "llava-next-video",
        llava_next_video,
        videos,
        has_cls=True,
        thumbnails=True,
        folds="spread",
        videos=True,
        follows=True,
    ),
)
