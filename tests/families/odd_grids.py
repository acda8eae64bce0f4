"""Small models of classes with grids, or with a decoder, of their own make; images and videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import transformers as hf
from torch import Tensor

from tests.families.common import (
    END,
    IMAGE,
    START,
    TEXT,
    VIDEO,
    VISION,
)
from tests.families.odd import (
    GRIDDED,
    IDS,
    ROPE,
    SIDE,
    STARTS,
    Odd,
    gridded,
    plain,
)
from tests.families.qwen import qwen_inputs

WINDOWED = dict(GRIDDED, window_size=16, fullatt_block_indexes=[1])
AXIAL = dict(
    VISION, patch_size=4, pos_emb_height=8, pos_emb_width=8, rope_parameters=dict(rope_type="axial", rope_theta=1e4)
)


def exaone() -> object:
    words = dict(TEXT, model_type="exaone4", layer_types=["full_attention"] * 3, sliding_window=None)
    return hf.Exaone4_5_Config(vision_config=dict(WINDOWED, num_key_value_heads=1), text_config=words, **IDS)


def clova() -> object:
    vision = dict(WINDOWED, model_type="qwen2_5_vl_vision")
    return hf.HyperCLOVAXVisionV2Config(vision_config=vision, text_config=dict(TEXT), **IDS)


def ernie() -> object:
    words = dict(
        TEXT,
        moe_intermediate_size=[32, 24],
        moe_k=2,
        moe_num_experts=4,
        moe_num_shared_experts=1,
        mlp_layer_types=["dense", "sparse", "sparse"],
        rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[3, 3, 2]),
    )
    vision = dict(
        depth=2,
        hidden_size=32,
        num_heads=2,
        intermediate_size=64,
        patch_size=4,
        spatial_merge_size=2,
        temporal_merge_size=2,
    )
    return hf.Ernie4_5_VLMoeConfig(text_config=words, vision_config=vision, **IDS, **STARTS)


def kimi() -> object:
    words = dict(
        TEXT,
        num_key_value_heads=4,
        model_type="deepseek_v3",
        q_lora_rank=None,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=32,
        first_k_dense_replace=3,
    )
    return hf.Kimi_K25Config(
        vision_config=dict(AXIAL, merge_kernel_size=(2, 2)),
        text_config=words,
        projection_hidden_size=32,
        tie_word_embeddings=False,
        vision_start_token_id=START,
        vision_end_token_id=END,
        **IDS,
    )


def muse() -> object:
    return hf.MuseGlimmerConfig(
        vision_config=dict(AXIAL, merge_size=2, patch_temporal=2),
        text_config=dict(TEXT, head_dim=16, layer_types=["full_attention"] * 3),
        projector_hidden_size=32,
        out_hidden_size=128,
        **IDS,
    )


def llama4() -> object:
    vision = dict(
        {**VISION, "intermediate_size": 128},
        image_size=SIDE,
        patch_size=4,
        vision_output_dim=48,
        projector_input_dim=48,
        projector_output_dim=48,
        pixel_shuffle_ratio=0.5,
    )
    words = dict(
        TEXT,
        head_dim=16,
        intermediate_size_mlp=96,
        num_local_experts=2,
        interleave_moe_layer_step=2,
        layer_types=["full_attention"] * 3,
        attention_chunk_size=512,
    )
    return hf.Llama4Config(vision_config=vision, text_config=words, image_token_index=IMAGE)


def omni() -> object:
    vision = dict(GRIDDED, num_position_embeddings=36, deepstack_visual_indexes=[0, 1])
    audio = dict(
        num_mel_bins=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        d_model=32,
        max_source_positions=100,
        n_window=50,
        output_dim=64,
        downsample_hidden_size=16,
    )
    words = dict(
        TEXT,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        rope_parameters={**ROPE, "mrope_interleaved": True},
    )
    return hf.Qwen3OmniMoeThinkerConfig(
        text_config=words,
        vision_config=vision,
        audio_config=audio,
        audio_token_id=94,
        audio_start_token_id=95,
        vision_start_token_id=START,
        user_token_id=97,
        position_id_per_seconds=13,
        **IDS,
    )


def untyped(make: Callable) -> Callable:
    """Prompts for classes that take no types of tokens."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        return {name: value for name, value in make(rows).items() if name != "mm_token_type_ids"}

    return inputs


def routed(make: Callable) -> Callable:
    """Prompts whose tokens are sent to experts by a second list of types, of an item's start and end too."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        out = make(rows)
        marks = torch.tensor([IMAGE, VIDEO, START, END])
        return {**out, "moe_mm_token_type_ids": torch.isin(out["input_ids"], marks).int()}

    return inputs


def with_video(seconds: str = "") -> Callable:
    """Videos as patches, with their grids (t, h, w), two or four frames each; `seconds` names their rate."""

    def inputs(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        videos = [[(p, 2 + 2 * (p % 2), 4, 6) if i % 2 else p for i, p in enumerate(row)] for row in rows]
        out = qwen_inputs(videos)
        if seconds:
            out[seconds] = torch.full((len(out["video_grid_thw"]),), 0.5)
        return out

    return inputs


def paired(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Videos whose neighbouring frames are merged: half as many placeholders as a grid has cells."""
    out = qwen_inputs([[(p, 1 + p % 2, 4, 6) if i % 2 else p for i, p in enumerate(row)] for row in rows])
    grids = out["video_grid_thw"] * torch.tensor([2, 1, 1])
    pixels = torch.randn(int(grids.prod(-1).sum()), 48, generator=torch.Generator().manual_seed(sum(map(sum, rows))))
    if len(rows) > 1:  # each video by its own seed, whatever its company
        pixels = torch.cat([paired([row])["pixel_values_videos"] for row in rows])
    return {**out, "video_grid_thw": grids, "pixel_values_videos": pixels}


ODD_GRIDS = (
    Odd("Exaone4_5_ForConditionalGeneration", exaone, untyped(gridded())),
    Odd("HyperCLOVAXVisionV2ForConditionalGeneration", clova, untyped(gridded())),
    Odd("Ernie4_5_VLMoeForConditionalGeneration", ernie, routed(gridded(flat=48))),
    Odd("Kimi_K25ForConditionalGeneration", kimi, untyped(gridded(width=48))),
    Odd("MuseGlimmerForConditionalGeneration", muse, untyped(gridded())),
    Odd("Qwen3OmniMoeThinkerForConditionalGeneration", omni, untyped(gridded())),
)
LLAMA4 = Odd("Llama4ForConditionalGeneration", llama4, plain(9), (1, 3, 3))
ODD_VIDEOS = (
    Odd(
        "Qwen3OmniMoeThinkerForConditionalGeneration",
        omni,
        untyped(with_video(seconds="video_second_per_grid")),
        kind="video",
    ),
    Odd("Ernie4_5_VLMoeForConditionalGeneration", ernie, routed(paired), kind="video"),
)
