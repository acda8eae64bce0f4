"""Small models of classes whose pixels come as patches, and prompts for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import transformers as hf
from torch import Tensor

from tests.families.common import BOS, END, IMAGE, START, TEXT, VIDEO, VISION, padded, text
from tests.families.odd import IDS, Odd, gridded, image, rowed
from tests.families.odd_grids import untyped, with_video
from tests.families.qwen35 import mixed_layers
from tests.sweep.more_videos import single

BREAK = 94


def fuyu() -> object:
    words = dict(TEXT, model_type="persimmon", num_key_value_heads=4)
    return hf.FuyuConfig(patch_size=4, text_config=words, image_token_id=IMAGE, vocab_size=100, hidden_size=64)


def in_lines(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Images as lines of patches that a break parts, `[rows, most, values]`."""
    ids, pixels = [], []
    for row in rows:
        line, own = [BOS], [torch.zeros(0, 48)]
        for i, part in enumerate(row):
            if i % 2 == 0:
                line += text(part, 31 * part + i)
                continue
            width = 6 // (len(row) // 2)  # rows of one number of patches: the stock model takes no others
            line += [START, *[IMAGE] * width, BREAK, *[IMAGE] * width, END]
            own.append(torch.randn(2 * width, 48, generator=torch.Generator().manual_seed(part)))
        ids.append(line)
        pixels.append(torch.cat(own))
    input_ids, mask = padded(ids)
    filled = torch.nn.utils.rnn.pad_sequence(pixels, batch_first=True)
    return {"input_ids": input_ids, "attention_mask": mask, "pixel_values": filled}


def video_llama3() -> object:
    vision = dict(VISION, patch_size=4)
    return hf.VideoLlama3Config(vision_config=vision, text_config=dict(TEXT, model_type="qwen2"), **IDS)


def factored(kind: str, mask: bool = False) -> Callable:
    """Images or videos with grids and a factor each; of videos every third token left out, if there is a mask."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        make = single(untyped(with_video())) if kind == "video" else untyped(gridded(flat=48))
        out = make(rows)
        out[f"{kind}_merge_sizes"] = torch.full((len(out[f"{kind}_grid_thw"]),), 2)
        return compressed(out) if mask else out

    return inputs


def compressed(out: dict[str, Tensor]) -> dict[str, Tensor]:
    """A prompt without the placeholders of every third token of its videos, and the mask that says so."""
    video = out["input_ids"] == VIDEO
    # Counted within each row, so that a batch is its singles; rows have whole videos.
    left = torch.cat([torch.arange(int(row.sum())) % 3 > 0 for row in video])
    stays = torch.ones_like(video).masked_scatter(video, left) & out["attention_mask"].bool()
    ids, mask = padded([row[keep].tolist() for row, keep in zip(out["input_ids"], stays, strict=True)])
    return {**out, "input_ids": ids, "attention_mask": mask, "video_compression_mask": left}


def ovis2() -> object:
    vision = dict(VISION, image_size=24, patch_size=4, vocab_size=40, hidden_stride=2)
    return hf.Ovis2Config(
        vision_config=vision,
        text_config=hf.Qwen2Config(**TEXT),
        image_token_id=IMAGE,
        visual_indicator_token_ids=[94, 95, 96, 97, 98],
        vocab_size=100,
        hidden_size=64,
    )


def between_tiles(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Images as a thumbnail and 1 x 2 or 2 x 2 tiles of 9 tokens, or as one tile."""
    ids, pixels = [], []
    for row in rows:
        line = [BOS]
        for i, part in enumerate(row):
            if i % 2 == 0:
                line += text(part, 31 * part + i)
                continue
            run, high = [IMAGE] * 9, part % 3
            line += [94, *run, 95]
            for r in range(high):
                line += [*run, 96, *run, *[97][: int(r < high - 1)]]
            line.append(98)
            pixels += [image(100 * t + part) for t in range(1 + 2 * high)]
        ids.append(line)
    input_ids, mask = padded(ids)
    return {"input_ids": input_ids, "attention_mask": mask, "pixel_values": torch.stack(pixels)}


def granite_docling() -> object:
    vision = dict(VISION, image_size=24, patch_size=4, out_hidden_size=64, scale_factor=2)
    vision.update(deepstack_visual_indexes=[0, 1])
    return hf.GraniteDoclingConfig(vision_config=vision, text_config=dict(TEXT), image_token_id=IMAGE, pad_token_id=0)


def masked_tiles(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Tiles `[rows, most, 3, H, W]` of 9 tokens and which of them are real."""
    out = rowed(9)(rows)
    return {**out, "pixel_attention_mask": out["pixel_attention_mask"].flatten(2).any(dim=-1)}


def minicpm(name: str, **more: object) -> Callable[[], object]:
    vision = dict(VISION, image_size=32, patch_size=4, insert_layer_id=1)
    words = mixed_layers(model_type="qwen3_5_text")
    return lambda: getattr(hf, name)(
        vision_config=vision, text_config=words, insert_layer_id=1, image_token_id=IMAGE, video_token_id=93, **more
    )


def side_by_side(patches: int = 16, mark: bool = False) -> Callable:
    """Images of 8 x 8 or 8 x 16 patches side by side, and their sizes."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        ids, pixels, sizes = [], [], []
        for row in rows:
            line = [BOS]
            for i, part in enumerate(row):
                if i % 2 == 0:
                    line += text(part, 31 * part + i)
                    continue
                h, w = 8, 8 + 8 * (part % 2)
                line += [START, *[IMAGE] * (h * w // patches), END]
                pixels.append(torch.randn(3, 4, h * w * 4, generator=torch.Generator().manual_seed(part)))
                sizes.append([h, w])
            ids.append(line)
        input_ids, mask = padded(ids)
        out = {"input_ids": input_ids, "attention_mask": mask}
        out |= {"pixel_values": torch.cat(pixels, dim=-1)[None], "target_sizes": torch.tensor(sizes)}
        return {**out, "mm_token_type_ids": (input_ids == IMAGE).int()} if mark else out

    return inputs


MARKS = dict(image_start_id=START, image_end_id=END, slice_start_id=95, slice_end_id=96, newline_id=BREAK)
PATCHES = (
    Odd("FuyuForCausalLM", fuyu, in_lines),
    Odd("GraniteDoclingForConditionalGeneration", granite_docling, masked_tiles),
    Odd("Ovis2ForConditionalGeneration", ovis2, between_tiles),
    Odd("VideoLlama3ForConditionalGeneration", video_llama3, factored("image")),
    Odd("VideoLlama3ForConditionalGeneration", video_llama3, factored("video"), kind="video"),
    Odd("MiniCPMV4_6ForConditionalGeneration", minicpm("MiniCPMV4_6Config"), side_by_side()),
    Odd("MiniCPMV4_7ForConditionalGeneration", minicpm("MiniCPMV4_7Config", **MARKS), side_by_side(mark=True)),
    Odd("MiniCPMOcrForConditionalGeneration", minicpm("MiniCPMOcrConfig"), side_by_side(4)),
)
