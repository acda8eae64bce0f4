"""A cache of a shortened prompt: wrapped models go on from it, no other model reads it in silence."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from transformers import DynamicCache, StaticCache

from tests.families import FAMILIES, text
from tests.names import CACHE
from tests.reduction.test_generate import ROWS, answer
from tests.reduction.test_turns import first_turn, longer
from vtc import reduce_tokens, restore
from vtc.reduction.guarded_cache import guard, guarded_class

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
RECIPES = ("kcenter", "fastv")


def second(family, inputs, first):
    ids, mask, _ = longer(family, inputs, first.sequences)
    return {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]}


def held(cache):
    """The tensors of all layers: keys and values, or states, which stand in dictionaries."""
    values = [value for layer in cache.layers for value in vars(layer).values()]
    return [t for v in values for t in (v.values() if isinstance(v, dict) else [v]) if isinstance(t, torch.Tensor)]


@each_family
def test_the_stock_model_refuses_the_cache_after_restore(family):
    model, inputs, first = first_turn(family, ROWS[1:])
    given = second(family, inputs, first)
    want = answer(model, {**given, CACHE: copy.deepcopy(given[CACHE])})
    restore(model)
    before = copy.deepcopy(given[CACHE])
    last = {**given, "input_ids": given["input_ids"][:, -1:]}
    if family.axes == 3:  # GLM's stock class makes positions for the whole mask, as many as which it cannot place
        last["position_ids"] = torch.zeros(3, len(last["input_ids"]), 1, dtype=torch.int64)
    for call in (lambda: answer(model, given), lambda: model(**last)):
        with pytest.raises(ValueError, match=r"the cache .*left out.*reduce_tokens"):
            call()
    assert given[CACHE].get_seq_length() == before.get_seq_length()  # nothing was added
    pairs = zip(held(given[CACHE]), held(before), strict=True)
    assert all(torch.equal(now, then) for now, then in pairs)
    reduce_tokens(model, keep=0.25)
    assert torch.equal(answer(model, given), want)


def test_another_stock_model_and_the_inner_model_refuse_it_too():
    family = FAMILIES[0]
    model, _, first = first_turn(family, ROWS[1:])
    ids = torch.tensor([text(2, 4)])
    for other in (family.build(), model.model):
        with pytest.raises(ValueError, match=r"the cache .*left out.*reduce_tokens"):
            other(input_ids=ids, **{CACHE: first[CACHE]})


def test_a_stock_cache_is_anybodys():
    family = FAMILIES[0]
    model, inputs = family.build(), family.inputs(ROWS[1:])
    cache = DynamicCache(config=model.config.get_text_config())
    reduce_tokens(model, keep=1.0)
    answer(model, {**inputs, CACHE: cache})
    assert type(cache) is DynamicCache
    restore(model)
    model(input_ids=torch.tensor([text(2, 4)]), **{CACHE: cache})


@each_family
def test_cropping_to_a_length_is_refused_and_by_a_number_is_not(family):
    if family.layers != "full":
        return  # transformers crops caches of full layers only
    _, inputs, first = first_turn(family, ROWS[1:])
    cache, prompt = first[CACHE], inputs["input_ids"].shape[1]
    held = cache.get_seq_length()
    for length in (prompt, prompt + 1):
        with pytest.raises(ValueError, match=rf"crop\({length}\).*negative"):
            cache.crop(length)
    cache.crop(-1)
    assert cache.get_seq_length() == held - 1


@pytest.mark.parametrize("emptied", ["by the caller", "and filled by a stock model"])
def test_a_cache_that_was_reset_is_anybodys(emptied):
    family = FAMILIES[0]
    model, inputs = family.build(), family.inputs([[9]])
    want = answer(model, inputs)
    cache = StaticCache(config=model.config.get_text_config(), max_cache_len=120)
    reduce_tokens(model, keep=0.25)
    answer(model, {**family.inputs(ROWS[1:]), CACHE: cache})
    restore(model)
    cache.reset()
    assert torch.equal(answer(model, {**inputs, CACHE: cache}), want)
    assert not hasattr(cache, "vtc")


def test_a_failed_call_leaves_it_guarded():
    model, inputs, first = first_turn(FAMILIES[0], ROWS[1:])

    def fail(*args):
        raise MemoryError

    broken = model.get_decoder().register_forward_pre_hook(fail)
    with pytest.raises(MemoryError):
        answer(model, second(FAMILIES[0], inputs, first))
    broken.remove()
    assert not first[CACHE].claimed


def test_copies_and_pickles_stay_guarded():
    model, _, first = first_turn(FAMILIES[0], ROWS[1:])
    restore(model)
    file = io.BytesIO()
    pickle.dump(first[CACHE], file)
    file.seek(0)
    for twin in (copy.deepcopy(first[CACHE]), copy.copy(first[CACHE]), pickle.load(file)):
        with pytest.raises(ValueError, match=r"the cache .*left out.*reduce_tokens"):
            model(input_ids=torch.tensor([text(2, 4)]), **{CACHE: twin})


def test_guarding_twice_changes_nothing_more():
    cache = DynamicCache()
    guard(cache)
    guard(cache)
    assert type(cache) is guarded_class(DynamicCache)
    assert guarded_class(DynamicCache) is guarded_class(DynamicCache)


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("reorder_cache", torch.tensor([1, 0])),
        ("batch_select_indices", torch.tensor([1, 1])),
        ("batch_select_indices", torch.tensor([1])),
    ],
    ids=["reordered", "twice", "one"],
)
@pytest.mark.parametrize("recipe", ["kcenter", "kcenter+feather"])
def test_rows_of_the_cache_may_change(name, by, recipe):
    family = FAMILIES[0]
    model = reduce_tokens(family.build(), recipe, keep=0.25)
    inputs = family.inputs([[3, (1,), 4], [2, (2,), 7, (3,), 2]])
    steps = dict(max_new_tokens=3, do_sample=False, eos_token_id=None)

    def turn(change):
        first = model.generate(**inputs, **steps, return_dict_in_generate=True)
        cache, ids = first[CACHE], torch.cat([first.sequences, torch.tensor([text(2, 4)] * 2)], dim=1)
        mask = torch.cat([inputs["attention_mask"], torch.ones(2, 5, dtype=torch.int64)], dim=1)
        if change:
            getattr(cache, name)(by)
            ids, mask = ids[by], mask[by]
        return model.generate(input_ids=ids, attention_mask=mask, **steps, **{CACHE: cache})[:, -3:]

    assert torch.equal(turn(True), turn(False)[by])


def test_a_call_that_was_interrupted_leaves_the_cache_guarded_after_restore():
    model, inputs, first = first_turn(FAMILIES[0], ROWS[1:])

    def interrupt(*args):
        raise KeyboardInterrupt

    broken = model.get_decoder().layers[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        answer(model, second(FAMILIES[0], inputs, first))
    broken.remove()
    restore(model)
    with pytest.raises(ValueError, match=r"the cache .*left out.*reduce_tokens"):
        model(input_ids=torch.tensor([text(2, 4)]), **{CACHE: first[CACHE]})
