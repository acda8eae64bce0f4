"""Small models of further classes that the generic adapter serves, and prompts for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import transformers as hf
from torch import Tensor, nn

from tests.families.common import (
    BOS,
    END,
    IMAGE,
    START,
    TEXT,
    VIDEO,
    VISION,
    padded,
    spread,
    text,
)
from tests.families.mistral3 import BREAK, mistral3_inputs
from tests.families.qwen import qwen_inputs

SIDE = 24
SMALL = dict(VISION, image_size=SIDE, patch_size=4)
GRIDDED = dict(
    depth=2,
    num_heads=2,
    hidden_size=32,
    intermediate_size=64,
    patch_size=4,
    spatial_merge_size=2,
    temporal_patch_size=2,
    out_hidden_size=64,
)
ROPE = dict(rope_type="default", rope_theta=10000.0, mrope_section=[2, 3, 3])
IDS = dict(image_token_id=IMAGE, video_token_id=VIDEO)
STARTS = dict(image_start_token_id=START, image_end_token_id=END, video_start_token_id=95, video_end_token_id=96)


@dataclass(frozen=True)
class Odd:
    """A class, a small config of it, and prompts."""

    name: str
    config: Callable[[], object]
    inputs: Callable[[Sequence[Sequence[int]]], dict[str, Tensor]]
    grid: tuple[int, int, int] | None = None
    kind: str = "image"

    def build(self) -> nn.Module:
        return spread(getattr(hf, self.name)._from_config(self.config(), attn_implementation="eager"))


def written(rows: Sequence[Sequence[int]], run: Sequence[int]) -> tuple[dict[str, Tensor], list[list[int]]]:
    """Prompts of texts and, between them, seeds of images; and the seeds by row."""
    ids, seeds = [], []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            line += run if i % 2 else text(part, 31 * part + i)
        ids.append(line)
        seeds.append(list(row[1::2]))
    input_ids, mask = padded(ids)
    return dict(input_ids=input_ids, attention_mask=mask), seeds


def image(seed: int, side: int = SIDE) -> Tensor:
    return torch.randn(3, side, side, generator=torch.Generator().manual_seed(seed))


def plain(tokens: int, side: int = SIDE, types: bool = False, mask: str = "", apart: bool = True) -> Callable:
    """Images `[n, 3, H, W]`, each a run of placeholders, between two other tokens or side by side."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        run = [IMAGE] * tokens
        out, seeds = written(rows, [START, *run, END] if apart else run)
        out["pixel_values"] = torch.stack([image(seed, side) for row in seeds for seed in row])
        if mask:
            out[mask] = torch.ones(len(out["pixel_values"]), side, side, dtype=torch.bool)
        return {**out, "token_type_ids": torch.zeros_like(out["input_ids"])} if types else out

    return inputs


def rowed(tokens: int) -> Callable:
    """Images `[rows, most, 3, H, W]`, filled up with zeros, and masks."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        out, seeds = written(rows, [START, *[IMAGE] * tokens, END])
        most = max(map(len, seeds))
        out["pixel_values"] = torch.zeros(len(rows), most, 3, SIDE, SIDE)
        out["pixel_attention_mask"] = torch.zeros(len(rows), most, SIDE, SIDE, dtype=torch.int64)
        for r, row in enumerate(seeds):
            for n, seed in enumerate(row):
                out["pixel_values"][r, n], out["pixel_attention_mask"][r, n] = image(seed), 1
        return out

    return inputs


def sized(merge: int, broken: bool) -> Callable:
    """Images of any size, with a break token after each line of placeholders or in one run."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        parts = [[(p, 4 + 4 * (p % 2), 6) if i % 2 else p for i, p in enumerate(row)] for row in rows]
        out = mistral3_inputs(parts, merge=merge)
        if broken:
            return out
        lines = [[t for t in row if t != BREAK] for row in out["input_ids"].tolist()]
        lines = [[t for t in line if t != 0] for line in lines]
        ids, mask = padded(lines)
        return {**out, "input_ids": ids, "attention_mask": mask}

    return inputs


def gridded(width: int = 0, flat: int = 0) -> Callable:
    """Images as patches, with their grids; of `width` or `flat` values each, as small images or in a row."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        out = qwen_inputs([[(p, 4, 4 + 2 * (p % 2)) if i % 2 else p for i, p in enumerate(row)] for row in rows])
        if width:  # one frame a patch, as images of the size of a patch
            out["pixel_values"] = out["pixel_values"][:, :width].reshape(-1, 3, 4, 4)
        if flat:
            out["pixel_values"] = out["pixel_values"][:, :flat]
        return out

    return inputs


def siglip(**more: int) -> hf.SiglipVisionConfig:
    return hf.SiglipVisionConfig(**SMALL, vision_use_head=False, **more)


def pixtral() -> hf.PixtralVisionConfig:
    return hf.PixtralVisionConfig(**VISION, image_size=64, patch_size=4)


ODD = (
    Odd(
        "VipLlavaForConditionalGeneration",
        lambda: hf.VipLlavaConfig(
            vision_config=hf.CLIPVisionConfig(**SMALL),
            text_config=hf.LlamaConfig(**TEXT),
            image_token_index=IMAGE,
            vision_feature_layers=[-1, -2],
        ),
        plain(36, apart=False),
        (1, 6, 6),
    ),
    Odd(
        "AyaVisionForConditionalGeneration",
        lambda: hf.AyaVisionConfig(
            vision_config=siglip(),
            text_config=hf.Cohere2Config(**TEXT),
            image_token_index=IMAGE,
            vision_feature_select_strategy="full",
            downsample_factor=2,
        ),
        plain(9),
        (1, 3, 3),
    ),
    Odd(
        "Cohere2VisionForConditionalGeneration",
        lambda: hf.Cohere2VisionConfig(
            vision_config=siglip(), text_config=hf.Cohere2Config(**TEXT), image_token_id=IMAGE, downsample_factor=2
        ),
        plain(9),
        (1, 3, 3),
    ),
    Odd(
        "PaliGemmaForConditionalGeneration",
        lambda: hf.PaliGemmaConfig(
            vision_config=siglip(projection_dim=64),
            text_config=hf.GemmaConfig(**TEXT, head_dim=16),
            image_token_index=IMAGE,
            hidden_size=64,
            projection_dim=64,
        ),
        plain(36, types=True),
        (1, 6, 6),
    ),
    Odd(
        "Idefics2ForConditionalGeneration",
        lambda: hf.Idefics2Config(
            vision_config=SMALL,
            perceiver_config=dict(
                hidden_size=64,
                resampler_n_latents=5,
                resampler_depth=1,
                resampler_n_heads=2,
                resampler_head_dim=16,
                num_key_value_heads=1,
            ),
            text_config=hf.MistralConfig(**TEXT, head_dim=16),
            image_token_id=IMAGE,
        ),
        rowed(5),
        (1, 1, 5),
    ),
    Odd(
        "Idefics3ForConditionalGeneration",
        lambda: hf.Idefics3Config(
            vision_config=SMALL, text_config=hf.LlamaConfig(**TEXT), image_token_id=IMAGE, scale_factor=2
        ),
        rowed(9),
        (1, 3, 3),
    ),
    Odd(
        "GotOcr2ForConditionalGeneration",
        lambda: hf.GotOcr2Config(
            vision_config=dict(
                hidden_size=32,
                output_channels=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=64,
                patch_size=4,
                mlp_dim=64,
                window_size=4,
                global_attn_indexes=[1],
            ),
            text_config=hf.Qwen2Config(**TEXT),
            image_token_index=IMAGE,
        ),
        plain(16, side=64),
        (1, 4, 4),
    ),
    Odd(
        "LlavaForConditionalGeneration",
        lambda: hf.LlavaConfig(
            vision_config=pixtral(),
            text_config=hf.MistralConfig(**TEXT, head_dim=16),
            image_token_index=IMAGE,
            vision_feature_select_strategy="full",
            vision_feature_layer=-1,
        ),
        sized(1, broken=True),
    ),
    Odd(
        "LightOnOcrForConditionalGeneration",
        lambda: hf.LightOnOcrConfig(
            vision_config=pixtral(),
            text_config=hf.Qwen3Config(**TEXT, head_dim=16),
            image_token_id=IMAGE,
            spatial_merge_size=2,
        ),
        sized(2, broken=False),
    ),
    Odd(
        "QianfanOCRForConditionalGeneration",
        lambda: hf.QianfanOCRConfig(
            vision_config=dict(VISION, image_size=[SIDE, SIDE], patch_size=[4, 4]),
            text_config=hf.Qwen3Config(**TEXT, head_dim=16),
            image_token_id=IMAGE,
        ),
        plain(9),
        (1, 3, 3),
    ),
    Odd(
        "AriaForConditionalGeneration",
        lambda: hf.AriaConfig(
            vision_config=hf.Idefics3VisionConfig(**SMALL),
            text_config=hf.AriaTextConfig(**TEXT, moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1),
            image_token_index=IMAGE,
            projector_patch_to_query_dict={36: 9},
        ),
        plain(9, mask="pixel_mask"),
        (1, 3, 3),
    ),
    Odd(
        "DeepseekVLForConditionalGeneration",
        lambda: hf.DeepseekVLConfig(
            vision_config=dict(SMALL, vision_use_head=False),
            text_config=hf.LlamaConfig(**TEXT),
            image_token_id=IMAGE,
        ),
        plain(36),
        (1, 6, 6),
    ),
    Odd(
        "PaddleOCRVLForConditionalGeneration",
        lambda: hf.PaddleOCRVLConfig(
            vision_config=dict(SMALL, spatial_merge_size=2, temporal_patch_size=1),
            text_config=dict(TEXT, head_dim=16, rope_parameters=ROPE),
            vision_start_token_id=START,
            vision_end_token_id=END,
            **IDS,
        ),
        gridded(width=48),
    ),
)
