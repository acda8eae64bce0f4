"""InternVL with random weights: tiles of 4 x 4 patches, which are 2 x 2 tokens, and a thumbnail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config
from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

from tests.families.common import (
    BOS,
    END,
    IMAGE,
    START,
    TEXT,
    VISION,
    Family,
    Row,
    padded,
    spread,
    text,
)
from tests.families.llava_next import quiet

TILE, PATCH, TOKENS, MOST = 16, 4, 4, 6


def internvl(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**VISION, image_size=TILE, patch_size=PATCH, use_qk_norm=True),
        text_config=Qwen2Config(**TEXT),
        image_token_id=IMAGE,
        tie_word_embeddings=False,
    )
    return quiet(spread(InternVLForConditionalGeneration._from_config(config, attn_implementation=attention), seed))


def grid_of(part: Any) -> tuple[int, int]:
    """Rows and columns of the tiles of an image (seed,) or (seed, height, width)."""
    seed = int(part[0])
    h, w = part[1:3] if len(part) > 1 else (4 + 2 * (seed % 3), 8)
    columns, rows = get_optimal_tiled_canvas((8 * h, 8 * w), (TILE, TILE), 1, MOST)
    return rows, columns


def tiles_of(part: Any) -> Tensor:
    """`[tiles, 3, H, W]` of a smooth random image, the thumbnail last, as the processor cuts it."""
    rows, columns = grid_of(part)
    rough = torch.randn(1, 3, 2 * rows + 1, 2 * columns + 1, generator=torch.Generator().manual_seed(int(part[0])))
    image = interpolate(rough, (rows * TILE, columns * TILE), mode="bicubic")
    tiles = [row.split(TILE, dim=3) for row in image.split(TILE, dim=2)]
    shrunk = interpolate(image, (TILE, TILE), mode="bicubic", antialias=True)
    return torch.cat([*(tile for row in tiles for tile in row), *([shrunk] if rows * columns > 1 else [])])


def internvl_inputs(rows: Sequence[Row], side: str = "left") -> dict[str, Tensor]:
    """Prompts as the processor writes them."""
    ids, pixels = [], []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
            else:
                pixels.append(tiles_of(part))
                line += [START, *[IMAGE] * (len(pixels[-1]) * TOKENS), END]
        ids.append(line)
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask)
    return out | dict(pixel_values=torch.cat(pixels)) if pixels else out


INTERNVL = Family("internvl", internvl, internvl_inputs, has_cls=True, thumbnails=True, folds="spread")
