"""Qwen3.5 with random weights, dense and mixture of experts: layers of linear attention beside a full one."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import (
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
)

from tests.families.common import (
    TEXT,
    Family,
    centred,
    spread,
)
from tests.families.llava_next import quiet
from tests.families.qwen import (
    ROPE,
    TOKENS,
    VISION,
    qwen_inputs,
)

QWEN35_VISION = dict(**VISION, hidden_size=32, intermediate_size=64, out_hidden_size=64, num_position_embeddings=36)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=48, shared_expert_intermediate_size=48)


def mixed_layers(**more: Any) -> dict[str, Any]:
    """The language model's settings: a full layer between two linear ones."""
    return dict(
        **{**TEXT, **more},
        head_dim=16,
        rms_norm_eps=0.1,  # the norm behind linear attention meets small values: a small epsilon would cost digits
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        rope_parameters={**ROPE, "mrope_interleaved": True, "partial_rotary_factor": 1.0},
    )


def qwen35(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    config = Qwen3_5Config(vision_config=QWEN35_VISION, text_config=mixed_layers(), **TOKENS)
    model = spread(Qwen3_5ForConditionalGeneration._from_config(config, attn_implementation=attention), seed)
    return quiet(centred(model, "Qwen3_5RMSNorm"))


def audible(model: nn.Module) -> nn.Module:
    """Scales the experts, whose maps stand in one tensor, as if each had been drawn by itself: else none is heard."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "experts." in name and value.ndim == 3:
                value *= value.shape[1] ** 0.5
    return model


def qwen35_moe(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    config = Qwen3_5MoeConfig(vision_config=QWEN35_VISION, text_config=mixed_layers(**EXPERTS), **TOKENS)
    model = spread(Qwen3_5MoeForConditionalGeneration._from_config(config, attn_implementation=attention), seed)
    return quiet(audible(centred(model, "Qwen3_5MoeRMSNorm")))


VIDEOS = partial(qwen_inputs, videos=True, timestamps=True)
QWEN35 = (
    Family("qwen35", qwen35, qwen_inputs, resizes=True, axes=3, layers="linear"),
    Family("qwen35-video", qwen35, VIDEOS, resizes=True, videos=True, axes=3, layers="linear"),
    Family("qwen35-moe", qwen35_moe, qwen_inputs, resizes=True, axes=3, layers="linear", follows=True),
)
