"""Small models of classes whose pixels come as patches, and prompts for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import transformers as hf
from torch import Tensor

from tests.families.common import BOS, END, IMAGE, START, TEXT, VISION, padded, text
from tests.families.odd import Odd
from tests.families.qwen35 import audible, mixed_layers

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
    Odd("MiniCPMV4_6ForConditionalGeneration", minicpm("MiniCPMV4_6Config"), side_by_side()),
    Odd("MiniCPMV4_7ForConditionalGeneration", minicpm("MiniCPMV4_7Config", **MARKS), side_by_side(mark=True)),
    Odd("MiniCPMOcrForConditionalGeneration", minicpm("MiniCPMOcrConfig"), side_by_side(4)),
)
