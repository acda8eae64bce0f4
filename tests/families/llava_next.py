"""LLaVA-NeXT with random weights: thumbnails of 4 x 4 tokens, and tiles in seven arrangements."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    SiglipVisionConfig,
)
from transformers.image_processing_utils import select_best_resolution

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

PATCH, SIDE = 7, 4
GRIDS = ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (2, 3), (3, 2))


def pinpoints(size: int) -> list[list[int]]:
    return [[rows * size, columns * size] for rows, columns in GRIDS]


def llava_next(attention: str = "sdpa", seed: int = 0, *, tower: str = "clip", rest: int = 0) -> nn.Module:
    """`rest` pixels at the end of a tile's sides make no patch."""
    kind = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig}[tower]
    size = PATCH * SIDE + rest
    config = LlavaNextConfig(
        vision_config=kind(**VISION, image_size=size, patch_size=PATCH),
        text_config=LlamaConfig(**TEXT),
        image_token_index=IMAGE,
        vision_feature_select_strategy="full" if tower == "siglip" else "default",
        image_grid_pinpoints=pinpoints(size),
    )
    return quiet(spread(LlavaNextForConditionalGeneration._from_config(config, attn_implementation=attention), seed))


def quiet(model: nn.Module) -> nn.Module:
    """Never says a placeholder of its own accord: without a cache, a stock model would look for its image."""
    with torch.no_grad():
        model.lm_head.weight[[IMAGE, VIDEO]] = 0
    return model


def size_of(part: Any) -> tuple[int, int]:
    """Height and width in pixels of an image (seed,) or (seed, height, width in patches), mostly uneven."""
    seed = int(part[0])
    h, w = part[1:3] if len(part) > 1 else (4 + 2 * (seed % 3), 8)
    return PATCH * h - 5 * (seed % 3), PATCH * w - 3 * (seed % 2)


def grid_of(size: tuple[int, int], tile: int) -> tuple[int, int]:
    """Rows and columns of the tiles of an image."""
    height, width = select_best_resolution(size, pinpoints(tile))
    return height // tile, width // tile


def tiles_of(part: Any, count: int, tile: int) -> Tensor:
    return torch.randn(count, 3, tile, tile, generator=torch.Generator().manual_seed(int(part[0])))


def stacked(images: Sequence[Tensor]) -> Tensor:
    """As the processors pad: zeros after an image's own tiles."""
    most = max(map(len, images))
    return torch.stack([torch.cat([p, p.new_zeros(most - len(p), *p.shape[1:])]) for p in images])


def llava_next_inputs(rows: Sequence[Row], side: str = "left", *, tile: int = PATCH * SIDE) -> dict[str, Tensor]:
    """Prompts as the processor writes them; an image is (seed,) or (seed, height, width), see `size_of`."""
    ids, pixels, sizes = [], [], []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
                continue
            size = size_of(part)
            grid = grid_of(size, tile)
            line += [IMAGE] * (SIDE**2 + sum(LlavaNextProcessor._get_unpadded_features(None, *size, SIDE, SIDE, *grid)))
            pixels.append(tiles_of(part, 1 + grid[0] * grid[1], tile))
            sizes.append(size)
        ids.append(line)
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask)
    return out | dict(pixel_values=stacked(pixels), image_sizes=torch.tensor(sizes)) if pixels else out


LLAVA_NEXT = Family("llava-next", llava_next, llava_next_inputs, has_cls=True, thumbnails=True, folds="spread")
LLAVA_NEXT_VARIANTS = (
    Family(
        "llava-next-siglip",
        partial(llava_next, tower="siglip", rest=3),
        partial(llava_next_inputs, tile=PATCH * SIDE + 3),
        thumbnails=True,
    ),
)
