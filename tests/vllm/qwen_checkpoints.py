"""Small checkpoints with random weights and real processors, for both routes; their words are those of `tiny-qwen`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.families.common import spread
from vtc import embedded

TEXT = dict(
    vocab_size=208,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=8192,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
TOKENS = dict(image_token_id=10, video_token_id=11, vision_start_token_id=8, vision_end_token_id=9)
ROPE = dict(rope_type="default", rope_theta=10000.0, mrope_section=[4, 6, 6])
HALF_ROPE = dict(mrope_section=[6, 5, 5], mrope_interleaved=True, partial_rotary_factor=0.5)
VISION = dict(depth=4, num_heads=4, patch_size=8, spatial_merge_size=2, temporal_patch_size=2)


def saved(folder: Path, model: Any, processor_class: str, video_processor: str) -> str:
    """A folder with the weights of `model` and the processor of `tiny-qwen` under other class names."""
    spread(model).save_pretrained(folder)
    source = Path(embedded.path("tiny-qwen"))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    settings = json.loads((source / "processor_config.json").read_text())
    settings["processor_class"] = processor_class
    settings["video_processor"]["video_processor_type"] = video_processor
    (folder / "processor_config.json").write_text(json.dumps(settings))
    words = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**words, "processor_class": processor_class}))
    return str(folder)


def qwen2_vl(folder: Path) -> str:
    """Qwen2-VL."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = dict(**VISION, embed_dim=64, hidden_size=128, mlp_ratio=2)
    config = Qwen2VLConfig(vision_config=vision, text_config={**TEXT, "rope_parameters": ROPE}, **TOKENS)
    return saved(folder, Qwen2VLForConditionalGeneration(config), "Qwen2VLProcessor", "Qwen2VLVideoProcessor")


def qwen3_vl(folder: Path) -> str:
    """Qwen3-VL with two DeepStack planes."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    vision = dict(
        **VISION,
        hidden_size=64,
        intermediate_size=128,
        out_hidden_size=128,
        num_position_embeddings=144,
        deepstack_visual_indexes=[0, 2],
    )
    text = {**TEXT, "head_dim": 32, "rope_parameters": {**ROPE, "mrope_interleaved": True}}
    config = Qwen3VLConfig(vision_config=vision, text_config=text, **TOKENS)
    return saved(folder, Qwen3VLForConditionalGeneration(config), "Qwen3VLProcessor", "Qwen3VLVideoProcessor")


def qwen35(folder: Path, experts: bool = False) -> str:
    """Qwen3.5 with a full-attention layer behind two linear ones; vLLM's kernels for a CPU want heads of 64 or more."""
    import transformers

    kind = "Qwen3_5Moe" if experts else "Qwen3_5"
    vision = dict(**VISION, hidden_size=64, intermediate_size=128, out_hidden_size=128, num_position_embeddings=144)
    text = {
        **TEXT,
        "head_dim": 64,
        "rms_norm_eps": 0.1,  # the norm behind linear attention meets small values: a small epsilon would cost digits
        "layer_types": ["linear_attention", "linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
        "rope_parameters": {
            **ROPE,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
            "partial_rotary_factor": 0.5,
        },
    }
    if experts:
        text |= dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64, shared_expert_intermediate_size=64)
    config = getattr(transformers, f"{kind}Config")(vision_config=vision, text_config=text, **TOKENS)
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    return saved(folder, model, "Qwen3VLProcessor", "Qwen3VLVideoProcessor")
