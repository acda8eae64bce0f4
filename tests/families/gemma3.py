"""Gemma 3 with random weights: sliding windows, and images whose tokens see each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

from tests.families.common import (
    BOS,
    END,
    IMAGE,
    START,
    TEXT,
    VISION,
    Family,
    Row,
    centred,
    padded,
    spread,
    text,
)
from tests.families.llava_next import quiet

SIDE, TOKENS = 24, 9
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]


def gemma3(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**VISION, image_size=SIDE, patch_size=4, vision_use_head=False),
        text_config=Gemma3TextConfig(
            **TEXT, head_dim=16, query_pre_attn_scalar=16, sliding_window=8, layer_types=LAYERS
        ),
        mm_tokens_per_image=TOKENS,
        image_token_index=IMAGE,
        boi_token_index=START,
        eoi_token_index=END,
        tie_word_embeddings=False,
    )
    model = spread(Gemma3ForConditionalGeneration._from_config(config, attn_implementation=attention), seed)
    return quiet(centred(model, "Gemma3RMSNorm"))


def gemma3_inputs(rows: Sequence[Row], side: str = "left") -> dict[str, Tensor]:
    """Prompts as the processor writes them; of (seed, ...) only the seed counts."""
    ids, pixels = [], []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
                continue
            line += [START, *[IMAGE] * TOKENS, END]
            pixels.append(torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(int(part[0]))))
        ids.append(line)
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask, token_type_ids=(input_ids == IMAGE).long())
    return out | dict(pixel_values=torch.stack(pixels)) if pixels else out


GEMMA3 = Family("gemma3", gemma3, gemma3_inputs, cues=False, layers="sliding", folds="spread")
