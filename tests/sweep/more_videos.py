"""Videos for classes with grids that the tables beside this one have with images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import transformers as hf
from torch import Tensor

from tests.families.common import END, IMAGE, START, TEXT, VIDEO
from tests.families.odd import SMALL, Odd, image, plain, written
from tests.families.odd_grids import clova, exaone, kimi, muse, untyped, with_video
from tests.families.qwen import qwen2vl, qwen3vl_moe, qwen_inputs
from tests.families.qwen35 import qwen35_moe
from tests.sweep.more_grids import cosmos_edge, dots, spark, stamped

plain_video = untyped(with_video())


def single(make: Callable) -> Callable:
    """Videos whose patches are of one frame."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        out = make(rows)
        return {**out, "pixel_values_videos": out["pixel_values_videos"][:, :48]}

    return inputs


def averaged(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Videos of two frames whose features are averaged: as many placeholders as one frame has cells."""
    out = qwen_inputs([[(p, 4, 6) if i % 2 else p for i, p in enumerate(row)] for row in rows])
    grids = out["image_grid_thw"] * torch.tensor([2, 1, 1])
    pixels = [torch.randn(48, 48, generator=torch.Generator().manual_seed(part)) for row in rows for part in row[1::2]]
    ids = torch.where(out["input_ids"] == IMAGE, VIDEO, out["input_ids"])
    return {
        "input_ids": ids,
        "attention_mask": out["attention_mask"],
        "video_grid_thw": grids,
        "pixel_values_videos": torch.cat(pixels).reshape(-1, 3, 4, 4),
    }


def video_llava() -> object:
    return hf.VideoLlavaConfig(
        vision_config=hf.CLIPVisionConfig(**SMALL),
        text_config=hf.LlamaConfig(**TEXT),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
    )


def framed(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Videos `[n, 2, 3, H, W]` of 37 tokens a frame."""
    out, seeds = written(rows, [START, *[VIDEO] * 74, END])
    videos = [torch.stack([image(seed), image(100 + seed)]) for row in seeds for seed in row]
    return {**out, "pixel_values_videos": torch.stack(videos)}


MORE_VIDEOS = (
    Odd("Exaone4_5_ForConditionalGeneration", exaone, plain_video, kind="video"),
    Odd("HyperCLOVAXVisionV2ForConditionalGeneration", clova, plain_video, kind="video"),
    Odd("Kimi_K25ForConditionalGeneration", kimi, averaged, kind="video"),
    Odd("MuseGlimmerForConditionalGeneration", muse, plain_video, kind="video"),
    Odd("MuseSparkForConditionalGeneration", spark, plain_video, kind="video"),
    Odd("Cosmos3EdgeForConditionalGeneration", cosmos_edge, single(stamped), kind="video"),
    Odd("Dots3NoteForConditionalGeneration", dots, single(plain_video), kind="video"),
    Odd("Qwen2VLForConditionalGeneration", lambda: qwen2vl().config, with_video(), kind="video"),
    Odd("Qwen3VLMoeForConditionalGeneration", lambda: qwen3vl_moe().config, stamped, kind="video"),
    Odd("Qwen3_5MoeForConditionalGeneration", lambda: qwen35_moe().config, stamped, kind="video"),
    Odd("VideoLlavaForConditionalGeneration", video_llava, plain(36)),
    Odd("VideoLlavaForConditionalGeneration", video_llava, framed, kind="video"),
)
