"""Small models of classes with a newline token behind each row of an image, and prompts for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import transformers as hf
from torch import Tensor

from tests.families.common import BOS, END, IMAGE, START, TEXT, VIDEO, VISION, padded, text
from tests.families.mistral3 import BREAK
from tests.families.odd import IDS, Odd, image
from tests.sweep.more_images import ROUTED


def hy_v4() -> object:
    words = dict(
        TEXT,
        **ROUTED,
        head_dim=16,
        moe_intermediate_size=32,
        q_lora_rank=32,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=8,
        v_head_dim=16,
        index_topk=512,
        index_head_dim=16,
        index_n_heads=2,
        rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 1, 1]),
    )
    vision = dict(VISION, patch_size=4, out_hidden_size=64, max_image_size=64)
    return hf.HYV4VLConfig(vision_config=vision, text_config=words, **IDS)


def emu3() -> object:
    codes = {f"<|visual token {i:06d}|>": 5 + i for i in range(16)}
    vq = dict(
        codebook_size=16,
        embed_dim=4,
        latent_channels=4,
        base_channels=32,
        channel_multiplier=(1, 1),
        num_res_blocks=1,
        attn_resolutions=(),
        hidden_size=32,
        temporal_downsample_factor=2,
    )
    vocabulary = {**codes, "<image>": IMAGE, "<|extra_200|>": 89}
    return hf.Emu3Config(vq_config=vq, text_config=dict(TEXT, attention_dropout=0.0), vocabulary_map=vocabulary)


def apertus() -> object:
    vq = dict(
        codebook_size=16,
        embed_dim=8,
        latent_channels=8,
        base_channels=32,
        channel_multiplier=(1, 1),
        num_res_blocks=1,
        attn_resolutions=(),
        resolution=8,
    )
    words = dict(TEXT, vocab_size=4212, rope_parameters=dict(rope_type="default", rope_theta=1e4))
    return hf.Apertus1p5Config(
        text_config=words,
        vision_config=vq,
        image_token_id=IMAGE,
        audio_token_id=93,
        image_token_offset=100,
        audio_token_offset=116,
    )


def in_sizes(factor: int, broken: bool = False) -> Callable:
    """Images `[n, 3, H, W]` and their sizes; a placeholder more for each row, or a break between rows."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        ids, pixels, sizes = [], [], []
        for row in rows:
            line = [BOS]
            for i, part in enumerate(row):
                if i % 2 == 0:
                    line += text(part, 31 * part + i)
                    continue
                h, w = 2, 3 + part % 2
                run = [IMAGE] * (w if broken else w + 1)
                line += [START, *run, *[BREAK][: int(broken)], *run, END]
                pixels.append(torch.zeros(3, h * factor, 4 * factor))
                pixels[-1][:, :, : w * factor] = image(part, 4 * factor)[:, : h * factor, : w * factor]
                sizes.append([h * factor, w * factor])
            ids.append(line)
        input_ids, mask = padded(ids)
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "pixel_values": torch.stack(pixels),
            "image_sizes": torch.tensor(sizes),
        }

    return inputs


def lined(frames: int = 0) -> Callable:
    """Images as patches, with grids; a placeholder more for each row."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        token, name = (VIDEO, "video") if frames else (IMAGE, "image")
        ids, pixels, grids = [], [], []
        for row in rows:
            line = [BOS]
            for i, part in enumerate(row):
                if i % 2 == 0:
                    line += text(part, 31 * part + i)
                    continue
                t, h, w = max(frames, 1), 4, 4 + 2 * (part % 2)
                line += [START, *[token] * (t * (h // 2) * (w // 2 + 1)), END]
                pixels.append(torch.randn(t * h * w, 48, generator=torch.Generator().manual_seed(part)))
                grids.append([t, h, w])
            ids.append(line)
        input_ids, mask = padded(ids)
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "mm_token_type_ids": (input_ids == IMAGE).int() + 2 * (input_ids == VIDEO).int(),
            "pixel_values_videos" if frames else "pixel_values": torch.cat(pixels),
            f"{name}_grid_thw": torch.tensor(grids),
        }

    return inputs


ROWED = (
    Odd("Apertus1p5ForConditionalGeneration", apertus, in_sizes(2, broken=True)),
    Odd("Emu3ForConditionalGeneration", emu3, in_sizes(2)),
    Odd("HYV4VLForConditionalGeneration", hy_v4, lined()),
    Odd("HYV4VLForConditionalGeneration", hy_v4, lined(frames=2), kind="video"),
)
