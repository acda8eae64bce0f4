"""LFM2-VL with random weights: images of any shape, or tiles of 4 x 4 patches beside a thumbnail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Lfm2VlConfig, Lfm2VlForConditionalGeneration

from tests.families.common import BOS, IMAGE, TEXT, VISION, Family, Row, padded, spread, text
from tests.families.llava_next import quiet

FIRST, WHOLE, OPEN, CLOSE, WORDS = IMAGE + 1, IMAGE + 101, IMAGE + 102, IMAGE + 103, IMAGE + 110
"""The marks of the first tile and of a thumbnail, and what stands around an image; ids are as checkpoints have them."""
PATCH, TILE, MOST = 4, 4, 44
"""Pixels along a side of a patch, patches along a side of a tile, and how many patches each entry is filled up to."""


def lfm2_vl(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    config = Lfm2VlConfig(
        vision_config=dict(VISION, patch_size=PATCH, num_patches=36, vision_use_head=False),
        text_config=dict(
            {**TEXT, "vocab_size": WORDS},
            block_auto_adjust_ff_dim=False,
            layer_types=["conv", "full_attention", "conv"],
        ),
        image_token_id=IMAGE,
        projector_hidden_size=48,
        tie_word_embeddings=False,
    )
    return quiet(spread(Lfm2VlForConditionalGeneration._from_config(config, attn_implementation=attention), seed))


def entries_of(part: Any) -> tuple[list[tuple[int, int]], int]:
    """Height and width in patches of each entry of an image, and how many columns its tiles have (0: it has none)."""
    seed = int(part[0])
    h, w = part[1:3] if len(part) > 1 else (4 + 2 * (seed % 3), 8)
    if h * w <= 36:
        return [(h, w)], 0
    rows, columns = -(-h // TILE), -(-w // TILE)
    return [(TILE, TILE)] * (rows * columns) + [(2 * (h // 4), 2 * (w // 4))], columns


def written(sizes: Sequence[tuple[int, int]], columns: int) -> list[int]:
    """The ids of one image."""
    line = [OPEN]
    for n, (h, w) in enumerate(sizes):
        if columns:
            line.append(WHOLE if n == len(sizes) - 1 else FIRST + 10 * (n // columns) + n % columns)
        line += [IMAGE] * (h * w // 4)
    return [*line, CLOSE]


def lfm2_vl_inputs(rows: Sequence[Row], side: str = "left") -> dict[str, Tensor]:
    """Prompts as the processor writes them."""
    ids, pixels, shapes = [], [], []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
                continue
            sizes, columns = entries_of(part)
            line += written(sizes, columns)
            generator = torch.Generator().manual_seed(int(part[0]))
            for h, w in sizes:
                pixels.append(torch.zeros(MOST, 3 * PATCH**2))
                pixels[-1][: h * w] = torch.randn(h * w, 3 * PATCH**2, generator=generator)
            shapes += sizes
        ids.append(line)
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask)
    if not pixels:
        return out
    shown = torch.stack([(torch.arange(MOST) < h * w).int() for h, w in shapes])
    return {
        **out,
        "pixel_values": torch.stack(pixels),
        "spatial_shapes": torch.tensor(shapes),
        "pixel_attention_mask": shown,
    }


LFM2_VL = Family("lfm2-vl", lfm2_vl, lfm2_vl_inputs, thumbnails=True, layers="linear")
