"""What decoder stages cost and save: `pytest tests/benchmarks/test_decoder_speed.py --benchmark-only -s`.

Both figures are ratios or differences of medians of runs that take turns. In an ordinary run each is done once on a
small model, and what it prints means nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, DynamicCache, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from tests.names import CACHE
from vtc import Recipe, reduce_tokens, restore
from vtc.stages import Layerwise

IMAGE, SIDE = 90, 32
RECIPE = Recipe((Layerwise(((0.25, 0.5), (0.5, 0.25))),), name="layerwise")


def llava(hidden: int, between: int, layers: int) -> LlavaForConditionalGeneration:
    """A decoder of any shape behind an image of 1,024 tokens and the smallest of towers."""
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=448, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=128,
        hidden_size=hidden,
        intermediate_size=between,
        num_hidden_layers=layers,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE)
    return LlavaForConditionalGeneration(config).eval()


def prompt() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.cat([torch.randint(3, 80, (1, 20), generator=generator), torch.full((1, SIDE**2), IMAGE)], dim=1)
    ids = torch.cat([ids, torch.randint(3, 80, (1, 20), generator=generator)], dim=1)
    pixels = torch.randn(1, 3, 448, 448, generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def in_turns(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of each."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, times in zip((first, second), taken, strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])


@pytest.mark.slow
@torch.no_grad()
def test_prefill_takes_what_its_flops_predict(benchmark, request):
    measured = request.config.getoption("benchmark_only")
    model, inputs = llava(*(896, 4864, 28) if measured else (112, 224, 8)), prompt()
    full = lambda: restore(model)(**inputs, logits_to_keep=1)  # noqa: E731
    less = lambda: reduce_tokens(model, RECIPE)(**inputs, logits_to_keep=1)  # noqa: E731
    full(), less()
    report = model.vtc.report
    predicted = report.decoder.prefill_flops / report.prefill_flops_before
    slow, fast = in_turns(full, less, 5 if measured else 1)
    benchmark.pedantic(less, rounds=1)
    benchmark.extra_info.update(full=slow, layerwise=fast, ratio=fast / slow, predicted=predicted)
    print(
        f"\nprefill: {fast / slow:.3f} of the full time, {predicted:.3f} of its FLOPs: {fast / slow / predicted:.3f} x"
    )
    assert 0 < predicted < 1


@pytest.mark.slow
@torch.no_grad()
def test_a_decoding_step_hardly_feels_the_hooks(benchmark, request):
    measured = request.config.getoption("benchmark_only")
    layers = 28
    model, inputs = llava(56, 112, layers), prompt()
    token = torch.tensor([[5]])

    cache = reduce_tokens(model, RECIPE)(**inputs)[CACHE]
    length, held = int(cache.get_seq_length()), [layer.keys.shape[2] for layer in cache.layers]
    decoder, embeds = model.get_decoder(), model.get_input_embeddings()(token)
    plain = DynamicCache()  # as short, and not known to be: a restored model refuses the other
    for i, layer in enumerate(cache.layers):
        plain.update(layer.keys, layer.values, i)

    def step(cache: Any) -> None:
        """One step on the shortened cache: without masks the hooks have nothing to do but to find that out."""
        decoder(inputs_embeds=embeds, position_ids=torch.tensor([[length]]), **{CACHE: cache})
        for layer, slots in zip(cache.layers, held, strict=True):
            layer.keys, layer.values = layer.keys[:, :, :slots], layer.values[:, :, :slots]

    def timed(cache: Any) -> float:
        start = time.perf_counter()
        step(cache)
        return time.perf_counter() - start

    differences = []
    for _ in range(400 if measured else 2):
        restore(model)
        without = timed(plain)
        reduce_tokens(model, RECIPE)
        differences.append(timed(cache) - without)
    benchmark.pedantic(step, args=(cache,), rounds=1)
    overhead = statistics.median(differences) / layers * 1e6
    benchmark.extra_info.update(microseconds_per_layer=overhead)
    print(f"\nhooks: {overhead:.1f} microseconds per layer and decoding step")
