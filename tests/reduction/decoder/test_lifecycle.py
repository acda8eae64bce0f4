"""A model with decoder stages among the things that people do with models."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from transformers import AttentionInterface, AttentionMaskInterface, CompileConfig
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.checks import check_close, check_same, footprint
from tests.families.internvl import INTERNVL
from tests.grid import (
    fresh,
    generate,
    steps,
    stock,
)
from tests.names import CACHE
from tests.reduction.decoder.common import (
    BATCHES,
    FULL,
    every_full,
    every_schedule,
    four,
    recipe,
    wrapped,
)
from tests.reduction.test_neighbours import lora
from vtc import (
    Recipe,
    named_recipes,
    reduce_tokens,
    restore,
)

INSIDE = [found for found in named_recipes() if found.decoder]
every_recipe = pytest.mark.parametrize("chosen", INSIDE, ids=lambda found: found.name)
ROWS = BATCHES["uneven"]


def able(family: Any, chosen: Recipe) -> Recipe:
    """The recipe, or one that needs no cues where the family's encoder gives none."""
    return chosen if family.cues or not chosen.cues else Recipe(chosen.decoder, name=chosen.name)


def same(one: Any, other: Any) -> None:
    """The same tokens, and the same logits to 1e-5 behind them."""
    check_close(steps(one), steps(other), "logits")
    assert one.sequences.tolist() == other.sequences.tolist()


def kept(model: Any) -> list[Any]:
    return [[left.tolist() for left in items] for items in model.vtc.report.decoder.kept.values()]


@every_recipe
@every_full
def test_every_recipe_on_every_family(family, chosen, tmp_path):
    """A batch equals its singles, one beam equals greedy, a saved recipe keeps the same, restoring leaves nothing."""
    plain, inputs = fresh(family), family.inputs(ROWS)
    generate(plain, inputs, tokens=1)
    before = footprint(plain)
    model = reduce_tokens(plain, able(family, chosen))
    batch = generate(model, inputs, tokens=3)
    found = kept(model)
    assert found
    same(generate(model, inputs, tokens=3, use_cache=False), batch)
    model.vtc.recipe.save(tmp_path / "one.json")
    same(generate(reduce_tokens(model, tmp_path / "one.json"), inputs, tokens=3), batch)
    assert kept(model) == found
    rows = [kept_alone(model, family, row, batch, r) for r, row in enumerate(ROWS)]
    layers = [[left for row in rows if row for left in row[k]] for k in range(len(found))]
    assert layers == found
    assert footprint(restore(model)) == before
    check_same(steps(generate(model, inputs)), steps(generate(stock(family), inputs)), "logits of the restored model")


def kept_alone(model: Any, family: Any, row: Any, batch: Any, r: int) -> list[Any]:
    single = generate(model, family.inputs([row]), tokens=3)
    check_close(steps(single)[0], steps(batch)[r], f"row {r}")
    return kept(model) if any(not isinstance(part, int) for part in row) else []


@every_schedule
@four
def test_other_ways_of_decoding_equal_greedy(family, schedule):
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(BATCHES["one"])
    greedy = generate(model, inputs, tokens=5)
    same(generate(model, inputs, tokens=5, use_cache=False), greedy)
    same(generate(model, inputs, tokens=5, cache_implementation="static"), greedy)
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    out = model.generate(**inputs, **options, prompt_lookup_num_tokens=3)
    assert out.tolist() == greedy.sequences.tolist()


@every_schedule
@pytest.mark.parametrize("family", [FULL[0], INTERNVL], ids=lambda family: family.name)
def test_assisted_decoding_equals_greedy(family, schedule, monkeypatch):
    """Stock M-RoPE models cannot draft behind an image; the other two can, and the stock model drafts here."""
    # transformers warns of its own call in there.
    monkeypatch.setattr(logging.getLogger("transformers"), "handlers", [])
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(BATCHES["one"])
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    out = model.generate(**inputs, **options, assistant_model=fresh(family))
    assert out.tolist() == model.generate(**inputs, **options).tolist()


@every_schedule
@four
def test_a_static_cache_of_uneven_rows(family, schedule):
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(ROWS)
    same(generate(model, inputs, tokens=5, cache_implementation="static"), generate(model, inputs, tokens=5))


@four
def test_a_compiled_decoding_step(family):
    torch._dynamo.reset()
    model, inputs = wrapped(family, recipe("pyramid")), family.inputs(BATCHES["one"])
    config = CompileConfig(backend="eager", fullgraph=True, mode=None)
    config._compile_all_devices = True
    same(
        generate(model, inputs, tokens=5, cache_implementation="static", compile_config=config),
        generate(model, inputs, tokens=5),
    )


@every_schedule
@four
def test_sampling_draws_what_it_draws_without_a_cache(family, schedule):
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(ROWS)
    options = {"do_sample": True, "num_return_sequences": 2, "top_k": 0}
    torch.manual_seed(3)
    one = generate(model, inputs, tokens=4, **options)
    torch.manual_seed(3)
    same(one, generate(model, inputs, tokens=4, use_cache=False, **options))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
@every_schedule
@four
@torch.no_grad()
def test_copies_of_a_cache_go_on_alike(family, schedule, duplicate):
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(ROWS)
    cache = model(**inputs, use_cache=True)[CACHE]
    twin = duplicate(cache)
    mask = torch.cat([inputs["attention_mask"], torch.ones(len(ROWS), 2, dtype=torch.int64)], dim=1)
    given = {"input_ids": torch.tensor([[5, 6]] * len(ROWS)), "attention_mask": mask}
    check_same(model(**given, **{CACHE: twin}).logits, model(**given, **{CACHE: cache}).logits, "logits")


@pytest.mark.parametrize("name", ["fastv", "pyramiddrop"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
@four
def test_copies_of_a_model_work_on_their_own(family, duplicate, name):
    model, inputs = reduce_tokens(fresh(family), name), family.inputs(ROWS)
    twin = duplicate(model)
    expected = generate(model, inputs, tokens=3)
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    same(generate(twin, inputs, tokens=3), expected)
    assert footprint(restore(twin)).keys() == footprint(stock(family)).keys()
    assert all(layer.self_attn.config._attn_implementation == "sdpa" for layer in twin.get_decoder().layers)


@four
def test_a_prompt_cannot_be_cropped_and_what_follows_can(family):
    model, inputs = wrapped(family, recipe("once")), family.inputs(BATCHES["one"])
    cache = generate(model, inputs, tokens=4)[CACHE]
    length = int(cache.get_seq_length())
    cache.crop(-2)
    assert int(cache.get_seq_length()) == length - 2
    with pytest.raises(ValueError, match="cannot be cropped"):
        cache.crop(-(length - 4))


@four
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_before_and_after(family):
    inputs = family.inputs(ROWS)
    after = lora(reduce_tokens(fresh(family), "fastv")).eval()
    before = reduce_tokens(lora(fresh(family)).eval(), "fastv")
    check_close(after(**inputs).logits, before(**inputs).logits, "logits")
    same(generate(after, inputs), generate(before, inputs))
    bare = reduce_tokens(fresh(family), "fastv")
    assert not torch.allclose(bare(**inputs).logits, before(**inputs).logits, atol=1e-3)


@pytest.mark.parametrize("name", ["pyramiddrop", "fastv"])
@four
def test_accelerate_dispatch_and_offload(family, name):
    inputs = family.inputs(ROWS)
    expected = generate(reduce_tokens(fresh(family), name), inputs)
    for place in (lambda m: dispatch_model(m, {"": "cpu"}, force_hooks=True), lambda m: cpu_offload(m, "cpu")):
        same(generate(reduce_tokens(place(fresh(family)), name), inputs), expected)
        same(generate(place(reduce_tokens(fresh(family), name)), inputs), expected)


@four
def test_two_threads_and_two_models_do_not_meet(family):
    one, other = reduce_tokens(fresh(family), "fastv"), wrapped(family, recipe("withdraw"))
    prompts = [family.inputs(BATCHES["one"]), family.inputs(BATCHES["even"])]
    pairs = [(model, prompt) for model in (one, other) for prompt in prompts]
    expected = [generate(model, prompt).sequences.tolist() for model, prompt in pairs]
    wrong: list[Any] = []

    def work(i: int) -> None:
        model, prompt = pairs[i]
        for _ in range(3):
            if generate(model, prompt).sequences.tolist() != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("batch", BATCHES)
@every_schedule
def test_flash_attentions_two_dimensional_masks(schedule, batch, monkeypatch):
    """A kernel that is given masks as flash attention is: `[B, keys]` or None, and positions without gaps."""
    family = FULL[0]

    def kernel(module, query, key, value, mask, **kwargs):
        assert kwargs.get("position_ids") is None
        queries, keys = query.shape[2], key.shape[2]
        seen = torch.ones(queries, keys).tril(keys - queries).bool()[None, None]
        if mask is not None:
            assert mask.shape == (len(query), keys)
            seen = seen & mask.bool()[:, None, None]
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, seen, **kwargs)

    AttentionInterface.register("flash_emulated", kernel)
    AttentionMaskInterface.register("flash_emulated", flash_attention_mask)
    inputs = family.inputs(BATCHES[batch])
    expected = generate(wrapped(family, recipe(schedule)), inputs)
    model = fresh(family)
    try:
        for module in model.get_decoder().modules():
            if hasattr(module, "config"):
                monkeypatch.setattr(module.config, "_attn_implementation_internal", "flash_emulated", raising=False)
        same(generate(reduce_tokens(model, recipe(schedule)), inputs), expected)
    finally:
        for known in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
            known._local_mapping.pop("flash_emulated", None)
            known._global_mapping.pop("flash_emulated", None)


def test_a_permuted_batch_answers_alike():
    for family in FULL[:2]:
        model = wrapped(family, replace(recipe("pyramid"), name="p"))
        straight = generate(model, family.inputs(ROWS))
        turned = generate(model, family.inputs([ROWS[1], ROWS[0], ROWS[2]]))
        check_close(steps(turned)[[1, 0, 2]], steps(straight), "logits")
