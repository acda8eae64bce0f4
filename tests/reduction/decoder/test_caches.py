"""Caches that know which tokens a layer lacks: static ones, copies, pickles, and what generation does to their rows."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from transformers import CompileConfig, DynamicCache

from tests.checks import check_close, check_decoding, check_same
from tests.grid import generate, steps, stock
from tests.names import CACHE
from tests.reduction.decoder.common import (
    BATCHES,
    every_schedule,
    four,
    recipe,
    told,
    wrapped,
)
from vtc.reduction.decoder.sparse_cache import filled


@every_schedule
@four
def test_a_static_cache_of_eager_attention(family, schedule):
    attention = "eager"  # of the other kernel: `test_lifecycle`
    model, inputs = wrapped(family, recipe(schedule), attention), family.inputs(BATCHES["uneven"])
    out = generate(model, inputs, tokens=4, cache_implementation="static")
    check_decoding(stock(family, attention), told(model, family, inputs), out.sequences, steps(out))


@pytest.mark.parametrize("batch", ["one", "uneven"])
@four
def test_the_compiled_decode_step_has_no_graph_breaks(family, batch):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model, inputs = wrapped(family, recipe("pyramid")), family.inputs(BATCHES[batch])
    config = CompileConfig(backend="aot_eager", fullgraph=True, dynamic=False, mode=None)
    config._compile_all_devices = True
    out = generate(model, inputs, tokens=4, cache_implementation="static", compile_config=config)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1
    assert sum(counters["graph_break"].values()) == 0
    check_decoding(stock(family), told(model, family, inputs), out.sequences, steps(out))


def prompt(family: Any, schedule: str = "pyramid", **options: Any) -> tuple[Any, Any, Any]:
    """A model, its prompt, and the cache that it makes of it."""
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(BATCHES["uneven"])
    with torch.no_grad():
        return model, inputs, model(**inputs, use_cache=True, **options)[CACHE]


@torch.no_grad()
def stepped(model: Any, mask: torch.Tensor, cache: Any, words: int = 2) -> torch.Tensor:
    """The logits of a few further tokens. `mask` is of the prompt."""
    ids = torch.arange(10, 10 + words * len(mask)).view(len(mask), words)
    whole = torch.cat([mask, mask.new_ones(len(mask), words)], dim=1)
    return model(input_ids=ids, attention_mask=whole, **{CACHE: cache}).logits


@four
def test_layers_hold_what_is_left_and_report_the_full_length(family):
    model, inputs, cache = prompt(family)
    length = inputs["input_ids"].shape[1]
    held = [layer.keys.shape[2] for layer in cache.layers]
    assert held == sorted(held, reverse=True)
    assert held[0] < length
    assert held[1] < held[0]
    assert held[-1] < held[1]
    assert [filled(layer) for layer in cache.layers] == held
    assert {layer.get_seq_length() for layer in cache.layers} == {length}
    stepped(model, inputs["attention_mask"], cache)
    assert [layer.keys.shape[2] - 2 for layer in cache.layers] == held
    assert cache.get_seq_length() == length + 2


def test_a_pickle_is_read_by_a_process_that_wrapped_nothing(tmp_path):
    import subprocess
    import sys

    from tests.reduction.decoder.common import FOUR

    _, inputs, cache = prompt(FOUR[0])
    (tmp_path / "cache").write_bytes(pickle.dumps(cache))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).get_seq_length())"
    out = subprocess.run([sys.executable, "-c", code, tmp_path / "cache"], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == str(inputs["input_ids"].shape[1])


@every_schedule
@four
def test_rows_may_be_repeated_reordered_and_selected(family, schedule):
    model, inputs, cache = prompt(family, schedule)
    mask = inputs["attention_mask"]
    want = stepped(model, mask, copy.deepcopy(cache))
    ids = torch.arange(10, 16).view(3, 2)
    order = torch.tensor([2, 0, 1])
    for name, given, rows in (
        ("batch_repeat_interleave", 2, torch.tensor([0, 0, 1, 1, 2, 2])),
        ("reorder_cache", order, order),
        ("batch_select_indices", torch.tensor([0, 2]), torch.tensor([0, 2])),
    ):
        changed = copy.deepcopy(cache)
        del changed.vtc  # the note stands for the rows that there were
        getattr(changed, name)(given)
        positions = positions_after(model, inputs)[..., rows, :]
        with torch.no_grad():
            logits = model(
                input_ids=ids[rows],
                attention_mask=torch.cat([mask[rows], mask.new_ones(len(rows), 2)], dim=1),
                position_ids=positions,
                **{CACHE: changed},
            ).logits
        check_close(logits, want[rows], name)


def positions_after(model: Any, inputs: Any, words: int = 2) -> torch.Tensor:
    """`[B, words]` or `[3, B, words]` positions of the tokens behind the prompt, by the model's own count."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    run = torch.arange(words)
    if not hasattr(model.model, "get_rope_index"):
        return mask.sum(dim=1, keepdim=True) + run
    names = ("image_grid_thw", "mm_token_type_ids")
    found, _ = model.model.get_rope_index(ids, attention_mask=mask, **{name: inputs[name] for name in names})
    return found.masked_fill(mask == 0, -1).amax(dim=(0, 2))[:, None].add(1 + run).expand(3, -1, -1)


@four
def test_a_crop_takes_back_what_came_after_the_prompt_and_no_more(family):
    model, inputs, cache = prompt(family)
    mask = inputs["attention_mask"]
    want = stepped(model, mask, copy.deepcopy(cache))
    stepped(model, mask, cache, words=5)
    cache.crop(-5)
    check_close(stepped(model, mask, cache), want, "logits after a crop")


@pytest.mark.parametrize("schedule", ["layer-0", "pyramid", "once", "withdraw"])
@four
def test_a_crop_that_is_refused_changes_no_layer(family, schedule):
    model, inputs, cache = prompt(family, schedule)
    mask = inputs["attention_mask"]
    want = stepped(model, mask, copy.deepcopy(cache))
    held = [layer.keys.shape[2] for layer in cache.layers]
    with pytest.raises(ValueError, match=r"cannot be cropped by \d+ tokens"):
        cache.crop(-20)
    assert [layer.keys.shape[2] for layer in cache.layers] == held
    check_same(stepped(model, mask, cache), want, "logits after a crop that was refused")


@four
def test_a_crop_layer_by_layer_is_the_negative_control(family):
    _, _, cache = prompt(family, "withdraw")
    held = [layer.keys.shape[2] for layer in cache.layers]
    with pytest.raises(ValueError, match="cannot be cropped"):
        type(cache)._base.crop(cache, -20)
    assert cache.layers[0].keys.shape[2] == held[0] - 20


@four
def test_a_cache_that_was_reset_is_as_new(family):
    model, inputs, cache = prompt(family)
    want = stepped(model, inputs["attention_mask"], copy.deepcopy(cache))
    cache.reset()
    assert cache.get_seq_length() == 0
    with torch.no_grad():
        model(**inputs, **{CACHE: cache})
    check_same(stepped(model, inputs["attention_mask"], cache), want, "logits")


@pytest.mark.parametrize("configured", [True, False])
@four
def test_an_empty_cache_may_be_given(family, configured):
    model, inputs = wrapped(family, recipe("pyramid")), family.inputs(BATCHES["uneven"])
    cache = DynamicCache(config=model.config.get_text_config()) if configured else DynamicCache()
    out = generate(model, inputs, **{CACHE: cache})
    assert out[CACHE] is cache
    check_decoding(stock(family), told(model, family, inputs), out.sequences, steps(out))
