"""Time to the first token of `small-llava`, with fewer tokens, beside the ideal: as many embeddings, nothing selected.

`pytest tests/benchmarks/test_small_llava_speed.py -m slow -s` prints a table: medians of calls that are taken in turns,
in one process, after a round to warm up. Nothing is asserted about time but that fewer tokens are not slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
import torch

from vtc import reduced
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.inference.asking import greedy
from vtc.inference.loading import load
from vtc.inference.prompting import inputs
from vtc.recipes.named import recipe

ROUNDS, STEPS, KEEPS = 11, 8, (0.5, 0.25, 0.1)
RECIPES = ("kcenter", "random", "cls")
THREADS = 2


def generate(model: Any, given: Any, tokens: int) -> None:
    model.generate(**given, **greedy(model), min_new_tokens=tokens, max_new_tokens=tokens)


def ideal(model: Any, given: Any, keep: float) -> Callable[[], None]:
    """A call with as many embeddings: image encoded, the first `keep` of its tokens passed on."""
    is_image = given["input_ids"] == model.config.image_token_id
    per_row = int(is_image[0].sum())
    kept = torch.zeros_like(is_image)
    for row in range(len(kept)):
        kept[row, is_image[row].nonzero()[:, 0][: int(keep * per_row + 0.5)]] = True
    stays = kept | ~is_image
    ids = torch.stack([row[stay] for row, stay in zip(given["input_ids"], stays, strict=True)])
    mask = torch.stack([row[stay] for row, stay in zip(given["attention_mask"], stays, strict=True)])

    def call() -> None:
        features = model.get_image_features(given["pixel_values"]).pooler_output
        embeddings = model.get_input_embeddings()(ids)
        chosen = torch.cat([f[: int(keep * per_row + 0.5)] for f in features])
        embeddings = embeddings.masked_scatter((ids == model.config.image_token_id)[..., None], chosen)
        model.generate(
            inputs_embeds=embeddings, attention_mask=mask, **greedy(model), min_new_tokens=1, max_new_tokens=1
        )

    return call


def medians(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of each call, taken in turns after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if number:
                taken[name].append(time.perf_counter() - begun)
    return {name: median(values) for name, values in taken.items()}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch", [1, 8])
@torch.no_grad()
def test_time_to_the_first_token(users_cache, batch, dtype, capsys):
    torch.set_num_threads(THREADS)
    try:
        model, processor = load("small-llava", device="cpu", dtype=dtype)
        scenes = [Scene(HELD_OUT + i) for i in range(batch)]
        given = inputs(model, processor, ["what color is the star?"] * batch, [scene.image for scene in scenes])

        def wrapped(name: str, keep: float, tokens: int) -> Callable[[], None]:
            def call() -> None:
                with reduced(model, recipe(name, keep=keep)):
                    generate(model, given, tokens)

            return call

        calls: dict[str, Callable[[], None]] = {"all tokens": lambda: generate(model, given, 1)}
        for keep in KEEPS:
            calls[f"ideal {keep}"] = ideal(model, given, keep)
            calls |= {f"{name} {keep}": wrapped(name, keep, 1) for name in RECIPES}
        calls["all tokens, longer"] = lambda: generate(model, given, 1 + STEPS)
        calls["kcenter 0.25, longer"] = wrapped("kcenter", 0.25, 1 + STEPS)
        found = medians(calls, ROUNDS)
    finally:
        torch.set_num_threads(1)
    with capsys.disabled():
        print(f"\nbatch of {batch}, {dtype}, {THREADS} threads, median of {ROUNDS}")
        print("| call | ms | times faster than all tokens | over the ideal |\n|---|---|---|---|")
        for name, seconds in found.items():
            if "longer" not in name:
                over = found.get(f"ideal {name.rpartition(' ')[2]}")
                beside = f"{seconds / over:.3f}" if over and not name.startswith("ideal") else ""
                print(f"| {name} | {seconds * 1e3:.0f} | {found['all tokens'] / seconds:.2f} | {beside} |")
        for name in ("all tokens", "kcenter 0.25"):
            step = (found[f"{name}, longer"] - found[name]) / STEPS
            print(f"decoding after {name}: {step * 1e3:.1f} ms a token")
    assert found["kcenter 0.25"] < found["all tokens"]
