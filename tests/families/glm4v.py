"""GLM-4.1V with random weights, for images and for videos; GLM-4.5V, GLM-4.6V and GLM-OCR beside it."""

from __future__ import annotations

from functools import partial

import transformers as hf
from torch import nn

from tests.families.common import END, IMAGE, START, TEXT, VIDEO, Family, spread
from tests.families.qwen import ROPE, VISION, qwen_inputs
from tests.families.qwen35 import audible

GLM_TEXT = dict(
    TEXT,
    rms_norm_eps=0.1,  # the norms behind attention and MLP meet small values: a small epsilon would cost digits
    rope_parameters={**ROPE, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]},
)
GLM_VISION = dict(**VISION, hidden_size=32, intermediate_size=64, out_hidden_size=64, image_size=24)
STARTS = dict(image_start_token_id=START, image_end_token_id=END, video_start_token_id=95, video_end_token_id=96)


def glm(
    name: str,
    attention: str = "sdpa",
    seed: int = 0,
    *,
    token: int = IMAGE,
    unused: int = VIDEO,
    **words: int,
) -> nn.Module:
    """A model of one class; `token` is the placeholder of images and of videos, `unused` that which is in no prompt."""
    config = getattr(hf, f"{name}Config")(
        vision_config=GLM_VISION,
        text_config={**GLM_TEXT, **words},
        image_token_id=token,
        video_token_id=unused,
        **STARTS,
    )
    made = getattr(hf, f"{name}ForConditionalGeneration")._from_config(config, attn_implementation=attention)
    return spread(made, seed)


def glm4v(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    return glm("Glm4v", attention, seed)


def glm4v_video(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    """The same weights. The prompts that all families share write videos as `VIDEO`, so that is its one placeholder."""
    return glm("Glm4v", attention, seed, token=VIDEO, unused=IMAGE)


def glm_ocr(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    return glm("GlmOcr", attention, seed)


def glm46v(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    return glm("Glm46V", attention, seed)


def glm4v_moe(attention: str = "sdpa", seed: int = 0) -> nn.Module:
    experts = dict(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=48, first_k_dense_replace=1)
    return audible(glm("Glm4vMoe", attention, seed, **experts))


VIDEOS = partial(qwen_inputs, videos=True, timestamps=True)
GLM4V = (
    Family("glm4v", glm4v, qwen_inputs, resizes=True, axes=3, pairs="neighbours", follows=True),
    Family("glm4v-video", glm4v_video, VIDEOS, resizes=True, videos=True, axes=3, pairs="neighbours", follows=True),
)
GLM_OTHERS = (
    Family("glm-ocr", glm_ocr, qwen_inputs, resizes=True, axes=3, pairs="neighbours"),
    Family("glm46v", glm46v, qwen_inputs, resizes=True, axes=3, pairs="neighbours"),
    Family("glm4v-moe", glm4v_moe, qwen_inputs, resizes=True, axes=3),
)
"""Further classes of the adapter, for the checks that can tell them apart."""
