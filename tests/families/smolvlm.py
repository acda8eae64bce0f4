"""SmolVLM with random weights: tiles of 6 x 6 patches, which are 3 x 3 tokens, and all of the image as one more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMVisionConfig

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

TILE, TOKENS, PLACE = 24, 9, 95


def smolvlm(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    config = SmolVLMConfig(
        vision_config=SmolVLMVisionConfig(**VISION, image_size=TILE, patch_size=4),
        text_config=LlamaConfig(**TEXT),
        scale_factor=2,
        image_token_id=IMAGE,
        tie_word_embeddings=False,
    )
    return quiet(spread(SmolVLMForConditionalGeneration._from_config(config, attn_implementation=attention), seed))


def tiles_of(part: Any) -> tuple[Tensor, Tensor]:
    """`[tiles, 3, H, W]` of an image (seed, height, width in patches), the whole last, and their masks."""
    seed, h, w = (*part, 6, 6)[:3]
    rows, columns = -(-h // 6), -(-w // 6)
    count = 1 if rows * columns == 1 else rows * columns + 1
    generator = torch.Generator().manual_seed(int(seed))
    mask = torch.ones(count, TILE, TILE, dtype=torch.int64)
    mask[-1, :, 4 * min(w, 6) :] = 0
    return torch.randn(count, 3, TILE, TILE, generator=generator), mask


def smolvlm_inputs(rows: Sequence[Row], side: str = "left") -> dict[str, Tensor]:
    """Prompts as the processor writes them: each tile behind a word on its place, rows filled up with zeros."""
    ids, found = [], []
    for row in rows:
        line, pixels, masks = [BOS], [], []
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
                continue
            tiles, mask = tiles_of(part)
            pixels += tiles
            masks += mask
            for n in range(len(tiles)):
                line += [START, PLACE + n % 3, *[IMAGE] * TOKENS]
            line.append(END)
        ids.append(line)
        found.append((pixels, masks))
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask)
    most = max(len(pixels) for pixels, _ in found)
    if most:
        out["pixel_values"] = torch.zeros(len(rows), most, 3, TILE, TILE)
        out["pixel_attention_mask"] = torch.zeros(len(rows), most, TILE, TILE, dtype=torch.int64)
        for r, (pixels, masks) in enumerate(found):
            for n, (tile, shown) in enumerate(zip(pixels, masks, strict=True)):
                out["pixel_values"][r, n], out["pixel_attention_mask"][r, n] = tile, shown
    return out


SMOLVLM = Family("smolvlm", smolvlm, smolvlm_inputs, cues=False)
