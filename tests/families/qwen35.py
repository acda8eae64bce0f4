"""Qwen3.5 with random weights: layers of linear attention beside a full one."""

from __future__ import annotations

from functools import partial

from torch import nn
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

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


def qwen35(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    vision = dict(**VISION, hidden_size=32, intermediate_size=64, out_hidden_size=64, num_position_embeddings=36)
    text = dict(
        **TEXT,
        head_dim=16,
        rms_norm_eps=0.1,  # the norm behind linear attention meets small values: a small epsilon would cost digits
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        rope_parameters={**ROPE, "mrope_interleaved": True, "partial_rotary_factor": 1.0},
    )
    config = Qwen3_5Config(vision_config=vision, text_config=text, **TOKENS)
    model = spread(Qwen3_5ForConditionalGeneration._from_config(config, attn_implementation=attention), seed)
    return quiet(centred(model, "Qwen3_5RMSNorm"))


VIDEOS = partial(qwen_inputs, videos=True, timestamps=True)
QWEN35 = (
    Family("qwen35", qwen35, qwen_inputs, cues=False, axes=3, layers="linear"),
    Family("qwen35-video", qwen35, VIDEOS, cues=False, axes=3, layers="linear"),
)
