"""LLaVA-OneVision with random weights: 3 x 3 tokens a tile, and no more than two tiles' tokens before they shrink."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    Qwen2Config,
    SiglipVisionConfig,
)

from tests.families.common import (
    BOS,
    IMAGE,
    TEXT,
    VIDEO,
    VISION,
    Family,
    Row,
    padded,
    spread,
    text,
)
from tests.families.llava_next import (
    PATCH,
    grid_of,
    pinpoints,
    quiet,
    size_of,
    stacked,
    tiles_of,
)

SIDE, RATIO, FRAMES = 3, "anyres_max_2", 3
TILE = PATCH * SIDE


def llava_onevision(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION, image_size=TILE, patch_size=PATCH, vision_use_head=False),
        text_config=Qwen2Config(**TEXT),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=pinpoints(TILE),
        vision_aspect_ratio=RATIO,
    )
    model = LlavaOnevisionForConditionalGeneration._from_config(config, attn_implementation=attention)
    return quiet(spread(model, seed))


def tokens_of(size: tuple[int, int]) -> int:
    """Tokens of an image in tiles, as the processor counts them."""
    count = LlavaOnevisionProcessor._get_unpadded_features
    return SIDE**2 + sum(count(SimpleNamespace(vision_aspect_ratio=RATIO), *size, SIDE, SIDE, *grid_of(size, TILE)))


def llava_onevision_inputs(rows: Sequence[Row], side: str = "left", *, nested: bool = False) -> dict[str, Tensor]:
    """Prompts as the processor writes them.

    Args:
        rows: an image is (seed,) or (seed, height, width), see `size_of`; (seed, frames, height, width) is a video.
        side: of the padding.
        nested: whether the processor was given a list of images for each prompt, so that several in one come without
            tiles, and not one list of all.
    """
    ids, pixels, sizes, numbers, videos = [], [], [], [], []
    for row in rows:
        line = [BOS]
        shown = [part for part in row if not isinstance(part, int) and len(part) != 4]
        numbers += ([len(shown)] if shown else []) if nested else [1] * len(shown)
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
            elif len(part) == 4:
                line += [VIDEO] * (part[1] * ((SIDE + 1) // 2) ** 2 + 1)
                videos.append(tiles_of(part, part[1], TILE))
            else:
                size, alone = size_of(part), nested and len(shown) > 1
                rows_, columns = grid_of(size, TILE)
                line += [IMAGE] * (SIDE**2 + 1 if alone else tokens_of(size))
                pixels.append(tiles_of(part, 1 if alone else 1 + rows_ * columns, TILE))
                sizes.append(size)
        ids.append(line)
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask)
    if pixels:
        out |= dict(
            pixel_values=stacked(pixels), image_sizes=torch.tensor(sizes), batch_num_images=torch.tensor(numbers)
        )
    if videos:
        out["pixel_values_videos"] = torch.stack(videos)
    return out


def video_inputs(rows: Sequence[Row], side: str = "left") -> dict[str, Tensor]:
    """A video of each image; all of a call have the same length."""
    return llava_onevision_inputs([[_with_video(part) for part in row] for row in rows], side)


def _with_video(part: Any) -> Any:
    return part if isinstance(part, int) else (part[0], FRAMES, 0, 0)


LLAVA_ONEVISION = (
    Family("llava-onevision", llava_onevision, llava_onevision_inputs, thumbnails=True, folds="spread"),
    Family("llava-onevision-video", llava_onevision, video_inputs, thumbnails=True, folds="spread", videos=True),
)
LLAVA_ONEVISION_VARIANTS = (
    Family(
        "llava-onevision-several",
        llava_onevision,
        partial(llava_onevision_inputs, nested=True),
        thumbnails=True,
        folds="spread",
    ),
)
