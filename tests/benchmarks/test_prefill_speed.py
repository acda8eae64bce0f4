"""Time to the first token of a mid-size LLaVA with random weights: image encoded, tokens selected, prompt read.

`pytest tests/benchmarks/test_prefill_speed.py --benchmark-only` prints all variants side by side; divide the medians
of one run. Every variant encodes the image again, as a user's call does, and the selection is inside the time.
"""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from vtc import reduce_tokens, restore

IMAGE = 90
VARIANTS = {
    "all tokens": None,
    "kcenter .25": ("kcenter", 0.25),
    "kcenter .1": ("kcenter", 0.1),
    "kcenter-mean .25": ("kcenter-mean", 0.25),
    "cls .25": ("cls", 0.25),
    "random .25": ("random", 0.25),
    "resize .25": ("resize", 0.25),
}


@pytest.fixture(scope="module")
def model():
    vision = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=128,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=16,
        num_attention_heads=16,
        max_position_embeddings=2048,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE)
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(0)
    ids = torch.cat([torch.randint(3, 80, (1, 20), generator=generator), torch.full((1, 576), IMAGE)], dim=1)
    ids = torch.cat([ids, torch.randint(3, 80, (1, 20), generator=generator)], dim=1)
    pixels = torch.randn(1, 3, 336, 336, generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_time_to_first_token(benchmark, model, inputs, variant):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    if VARIANTS[variant] is not None:
        recipe, keep = VARIANTS[variant]
        reduce_tokens(model, recipe, keep=keep)
    try:
        out = benchmark.pedantic(
            lambda: model.generate(**inputs, max_new_tokens=1, do_sample=False), rounds=5, warmup_rounds=1
        )
        if VARIANTS[variant] is not None:
            benchmark.extra_info["tokens"] = model.vtc.report.after
    finally:
        restore(model)
        torch.set_num_threads(threads)
    assert out.shape[1] == inputs["input_ids"].shape[1] + 1
