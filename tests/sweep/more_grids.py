"""Small models of further classes whose images come with grids, and prompts for them; see `families.odd_grids`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import transformers as hf
from torch import Tensor

from tests.families.common import END, IMAGE, START, TEXT, VIDEO, VISION
from tests.families.glm4v import glm, glm4v_moe
from tests.families.odd import GRIDDED, IDS, ROPE, STARTS, Odd, gridded
from tests.families.odd_grids import AXIAL, WINDOWED, untyped, with_video
from tests.families.qwen import qwen_inputs
from tests.sweep.more_images import ROUTED

MROPE = {**ROPE, "mrope_interleaved": True}
MARKED = dict(vision_start_token_id=START, vision_end_token_id=END, **IDS)
DEEP = dict(GRIDDED, num_position_embeddings=36, deepstack_visual_indexes=[0, 1])


def omni25() -> object:
    audio = dict(
        num_mel_bins=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        d_model=32,
        max_source_positions=100,
        n_window=50,
        output_dim=64,
    )
    return hf.Qwen2_5OmniThinkerConfig(
        text_config=dict(TEXT, rope_parameters=ROPE),
        vision_config=WINDOWED,
        audio_config=audio,
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        audio_token_index=94,
        audio_start_token_id=95,
        vision_start_token_id=START,
        user_token_id=97,
    )


def minimax() -> object:
    words = dict(
        TEXT,
        head_dim=16,
        rotary_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        dense_intermediate_size=96,
        shared_intermediate_size=32,
        layer_types=["full_attention"] * 3,
    )
    return hf.MiniMaxM3VLConfig(
        vision_config=dict(VISION, image_size=24, patch_size=4),
        text_config=words,
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        projector_hidden_size=64,
    )


def cosmos_edge() -> object:
    words = dict(TEXT, head_dim=16, rope_parameters=MROPE)
    return hf.Cosmos3EdgeConfig(
        vision_config=dict(VISION, patch_size=4, num_patches=36),
        text_config=words,
        projector_hidden_size=64,
        **MARKED,
    )


def cosmos_omni() -> object:
    return hf.Cosmos3OmniConfig(
        vision_config=dict(DEEP, model_type="qwen3_vl_vision"),
        text_config=dict(TEXT, head_dim=16, rope_parameters=MROPE, model_type="qwen3_vl_text"),
        **MARKED,
    )


def compass() -> object:
    words = dict(TEXT, layer_types=["full_attention"] * 3, rope_parameters={"full_attention": MROPE})
    return hf.CohereCompassConfig(vision_config=DEEP, text_config=words, **MARKED)


def lfm3() -> object:
    vision = dict(VISION, patch_size=4, num_key_value_heads=1, layer_types=["full_attention"] * 3)
    return hf.Lfm3VlConfig(
        vision_config=vision,
        text_config=hf.Lfm2Config(**TEXT, layer_types=["conv", "full_attention", "full_attention"]),
        projector_hidden_size=64,
        **MARKED,
    )


def dots() -> object:
    words = dict(
        TEXT,
        **ROUTED,
        num_key_value_heads=4,
        kv_lora_rank=16,
        q_lora_rank=32,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=16,
        head_dim=16,
        moe_intermediate_size=32,
        shared_experts_intermediate_size=32,
        layer_types=["indexed_attention", "indexed_attention", "sliding_attention"],
        sliding_window=512,
        per_layer_config={2: dict(num_attention_heads=2, num_key_value_heads=2, v_head_dim=8)},
        index_topk=512,
        index_head_dim=16,
        index_n_heads=2,
    )
    vision = dict(
        VISION,
        patch_size=4,
        mlp_layer_types=["dense", "dense", "sparse"],
        moe_intermediate_size=32,
        num_local_experts=4,
        num_experts_per_tok=2,
        adapter_in_dim=32,
        adapter_out_dim=64,
    )
    audio = dict(VISION, downsample_hidden_size=16, adapter_input_size=32, adapter_out_dim=64, feature_size=16)
    return hf.Dots3NoteConfig(vision_config=vision, text_config=words, audio_config=audio, audio_token_id=94, **IDS)


def spark() -> object:
    words = dict(
        TEXT, head_dim=16, layer_types=["full_attention"] * 3, moe_intermediate_size=32, num_local_experts=4,
        num_experts_per_tok=2, moe_hidden_size=32,
    )  # fmt: skip
    audio = dict(patch_sizes=(4, 2), hidden_sizes=(8, 16), depths=(1, 1), num_hidden_layers=2, out_hidden_size=64)
    return hf.MuseSparkConfig(
        vision_config=dict(AXIAL, merge_size=2, patch_temporal=2),
        text_config=words,
        audio_config=audio,
        audio_token_id=94,
        projector_hidden_size=32,
        out_hidden_size=128,
        **IDS,
    )


def glm5() -> object:
    words = dict(
        TEXT,
        **ROUTED,
        num_key_value_heads=4,
        kv_lora_rank=16,
        q_lora_rank=32,
        qk_rope_head_dim=0,
        qk_nope_head_dim=16,
        v_head_dim=16,
        moe_intermediate_size=32,
        index_topk=512,
        index_head_dim=16,
        index_n_heads=2,
        linear_head_dim=16,
        linear_num_heads=4,
        layer_types=["linear_attention", "indexed_attention", "indexed_attention"],
        indexer_types=["full", "full", "shared"],
    )

    vision = dict(GRIDDED, image_size=24, projection_intermediate_size=64)
    return hf.Glm5NextConfig(vision_config=vision, text_config=words, **IDS, **STARTS)


def qwen4() -> object:
    words = dict(
        TEXT,
        head_dim=16,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        num_experts=4,
        num_experts_per_tok=2,
        hc_lowrank=8,
        ple_layer_ids=[],
        indexer_n_heads=2,
        indexer_kv_heads=1,
        indexer_head_dim=16,
        indexer_budget=512,
        indexer_compress_ratio=4,
        rope_parameters=MROPE,
        layer_types=["linear_attention", "full_attention", "full_attention"],
    )
    vision = dict(GRIDDED, num_position_embeddings=36)
    return hf.Qwen4ExpConfig(vision_config=vision, text_config=words, **MARKED)


def stamped(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Videos with text between their frames, as Qwen3-VL's processor writes them."""
    videos = [[(p, 2 + 2 * (p % 2), 4, 6) if i % 2 else p for i, p in enumerate(row)] for row in rows]
    return qwen_inputs(videos, timestamps=True)


def glm_images(name: str) -> Callable[[], object]:
    return lambda: glm(name).config


def glm_videos(name: str) -> Callable[[], object]:
    """Whose placeholder of images is that which prompts write for videos."""
    return lambda: glm(name, token=VIDEO, unused=IMAGE).config


SECONDS = "video_second_per_grid"
MORE_GRIDS = (
    Odd("Glm46VForConditionalGeneration", glm_images("Glm46V"), gridded()),
    Odd("Glm46VForConditionalGeneration", glm_videos("Glm46V"), stamped, kind="video"),
    Odd("GlmOcrForConditionalGeneration", glm_images("GlmOcr"), gridded()),
    Odd("GlmOcrForConditionalGeneration", glm_videos("GlmOcr"), stamped, kind="video"),
    Odd("Glm4vMoeForConditionalGeneration", lambda: glm4v_moe().config, gridded()),
    Odd("Qwen2_5OmniThinkerForConditionalGeneration", omni25, untyped(gridded())),
    Odd("Qwen2_5OmniThinkerForConditionalGeneration", omni25, untyped(with_video(seconds=SECONDS)), kind="video"),
    Odd("MiniMaxM3SparseForConditionalGeneration", minimax, untyped(gridded())),
    Odd("MiniMaxM3SparseForConditionalGeneration", minimax, untyped(with_video()), kind="video"),
    Odd("Cosmos3EdgeForConditionalGeneration", cosmos_edge, gridded(flat=48)),
    Odd("Cosmos3OmniForConditionalGeneration", cosmos_omni, gridded()),
    Odd("Cosmos3OmniForConditionalGeneration", cosmos_omni, stamped, kind="video"),
    Odd("CohereCompassForConditionalGeneration", compass, gridded()),
    Odd("CohereCompassForConditionalGeneration", compass, stamped, kind="video"),
    Odd("Lfm3VlForConditionalGeneration", lfm3, untyped(gridded())),
    Odd("Lfm3VlForConditionalGeneration", lfm3, untyped(with_video()), kind="video"),
    Odd("Dots3NoteForConditionalGeneration", dots, untyped(gridded(flat=48))),
    Odd("MuseSparkForConditionalGeneration", spark, untyped(gridded())),
    Odd("Glm5NextForConditionalGeneration", glm5, gridded()),
    Odd("Qwen4ExpForConditionalGeneration", qwen4, gridded()),
    Odd("Qwen4ExpForConditionalGeneration", qwen4, stamped, kind="video"),
)
