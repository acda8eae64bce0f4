"""Wrapping touches one instance, and undoing it leaves nothing behind."""

from __future__ import annotations

import pytest
import torch

from tests.checks import check_same, footprint, neighbourhood
from tests.families import visual
from tests.grid import (
    SEVERAL,
    UNEVEN,
    Case,
    every_family,
    every_method,
    fresh,
    generate,
    kept,
    steps,
    stock,
)
from vtc import reduce_tokens, restore


@every_method
@torch.no_grad()
def test_undo_restores_logits_attributes_and_hooks(case: Case):
    model, inputs = fresh(case.family), case.family.inputs(UNEVEN)
    # transformers installs hooks of its own at the first run.
    want, logits = generate(model, inputs), model(**inputs).logits
    before = footprint(model)
    reduce_tokens(model, case.recipe)
    assert footprint(model) != before
    generate(model, inputs)
    model(**inputs)
    assert restore(model) is model
    assert footprint(model) == before
    again = generate(model, inputs)
    check_same(again.sequences, want.sequences, "tokens")
    check_same(steps(again), steps(want), "logits of generate")
    check_same(model(**inputs).logits, logits, "logits of forward")
    assert not hasattr(model, "vtc")


@every_family
def test_nothing_global_is_touched(family):
    model, inputs = fresh(family), family.inputs(UNEVEN)
    generate(model, inputs)
    before = neighbourhood(model)
    reduce_tokens(model, "cls-mean" if family.cues else "kcenter-mean", keep=0.3)
    assert neighbourhood(model) == before
    generate(model, inputs)
    assert neighbourhood(model) == before


@every_method
def test_two_wrapped_models_do_not_meet(case: Case):
    inputs = case.family.inputs(SEVERAL)
    one, other = (
        reduce_tokens(fresh(case.family), case.recipe),
        reduce_tokens(fresh(case.family), "random", keep=2, positions="compact", seed=5),
    )
    first = generate(one, inputs)
    chosen = kept(one)
    second = generate(other, inputs)
    assert kept(one) == chosen
    assert kept(other) != chosen
    check_same(steps(generate(one, inputs)), steps(first), "logits")
    restore(one)
    check_same(steps(generate(one, inputs)), steps(generate(stock(case.family), inputs)), "logits")
    check_same(steps(generate(other, inputs)), steps(second), "logits")


@every_family
def test_wrapping_again_replaces(family):
    model, inputs = fresh(family), family.inputs(SEVERAL)
    generate(model, inputs)
    bare = footprint(model)
    once = footprint(reduce_tokens(model, "stride", keep=2))
    reduce_tokens(model, "cls" if family.cues else "kcenter", keep=0.3)
    assert (footprint(model) != once) == family.cues
    reduce_tokens(model, "stride", keep=2)
    assert footprint(model) == once
    generate(model, inputs)
    assert {item.after for item in model.vtc.report.items} == {2}
    restore(model)
    restore(model)
    assert footprint(model) == bare


@every_method
def test_a_failing_call_leaves_the_model_as_it_was(case: Case):
    model, inputs = reduce_tokens(fresh(case.family), case.recipe), case.family.inputs(SEVERAL)
    want, before = generate(model, inputs), footprint(model)
    broken = {**inputs, "input_ids": inputs["input_ids"].clone()}
    broken["input_ids"][0, int(visual(inputs["input_ids"][0], model).nonzero()[0])] = 5
    with pytest.raises(ValueError, match="placeholders"):
        generate(model, broken)
    with pytest.raises(ValueError, match="placeholders"):
        model(**broken)
    assert footprint(model) == before
    check_same(steps(generate(model, inputs)), steps(want), "logits")


@every_method
def test_an_error_inside_the_model_leaves_it_as_it_was(case: Case):
    model, inputs = reduce_tokens(fresh(case.family), case.recipe), case.family.inputs(SEVERAL)
    want, before = generate(model, inputs), footprint(model)

    def fail(*args: object) -> None:
        raise RuntimeError("out of memory")

    for module in (model.get_decoder().layers[1], model.get_decoder()):
        handle = module.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            generate(model, inputs)
        with pytest.raises(RuntimeError, match="out of memory"):
            model(**inputs)
        handle.remove()
    assert footprint(model) == before
    check_same(steps(generate(model, inputs)), steps(want), "logits")
