"""Mistral 3 with a Pixtral tower and random weights: images of any size, a break token after each line."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import (
    Ministral3Config,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
)

from tests.families.common import (
    BOS,
    END,
    IMAGE,
    TEXT,
    VISION,
    Family,
    Row,
    padded,
    spread,
    text,
)
from tests.families.llava_next import quiet

PATCH, BREAK = 4, 94


def mistral3(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    config = Mistral3Config(
        vision_config=PixtralVisionConfig(**VISION, image_size=64, patch_size=PATCH),
        text_config=MistralConfig(**TEXT, head_dim=16, sliding_window=None),
        spatial_merge_size=2,
        image_token_id=IMAGE,
        tie_word_embeddings=False,
    )
    return quiet(spread(Mistral3ForConditionalGeneration._from_config(config, attn_implementation=attention), seed))


def mistral3_inputs(rows: Sequence[Row], side: str = "left", *, merge: int = 2) -> dict[str, Tensor]:
    """Prompts as the processor writes them; (seed, height, width) in patches of a side of 4 pixels."""
    ids, images = [], []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if isinstance(part, int):
                line += text(part, 31 * part + i)
                continue
            seed, h, w = (*part, 4, 6)[:3]
            lines = [[IMAGE] * (w // merge) + [BREAK] for _ in range(h // merge)]
            line += [token for one in lines for token in one]
            line[-1] = END
            generator = torch.Generator().manual_seed(int(seed))
            images.append(torch.randn(3, h * PATCH, w * PATCH, generator=generator))
        ids.append(line)
    input_ids, mask = padded(ids, side)
    out = dict(input_ids=input_ids, attention_mask=mask)
    if images:
        sizes = torch.tensor([image.shape[1:] for image in images])
        out["pixel_values"] = torch.zeros(len(images), 3, *sizes.amax(dim=0).tolist())
        out["image_sizes"] = sizes
        for place, image in zip(out["pixel_values"], images, strict=True):
            place[:, : image.shape[1], : image.shape[2]] = image
    return out


def ministral3(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    """Ministral 3: attention scales each query by its position id, the more the further behind."""
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "beta_fast": 32.0, "beta_slow": 1.0}
    scaled = {"mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 16, "llama_4_scaling_beta": 0.5}
    config = Mistral3Config(
        vision_config=PixtralVisionConfig(**VISION, image_size=64, patch_size=PATCH),
        text_config=Ministral3Config(**TEXT, head_dim=16, rope_parameters={**rope, **scaled}),
        spatial_merge_size=2,
        image_token_id=IMAGE,
        tie_word_embeddings=False,
    )
    return quiet(spread(Mistral3ForConditionalGeneration._from_config(config, attn_implementation=attention), seed))


MINISTRAL3 = Family("mistral3", ministral3, mistral3_inputs, cues=False)
MISTRAL3 = Family("mistral3", mistral3, mistral3_inputs, cues=False)
