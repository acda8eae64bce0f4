"""The checks of exactness fail where the engine is broken in ways that are easy to get wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import CompileConfig
from transformers.cache_utils import DynamicLayer

from tests.checks import check_beams, check_close, check_decoding
from tests.families import LLAVA
from tests.grid import (
    fresh,
    generate,
    steps,
    stock,
)
from tests.names import CACHE
from tests.reduction.decoder import test_caches, test_wrappers
from tests.reduction.decoder.common import (
    BATCHES,
    ByLot,
    four,
    recipe,
    told,
    wrapped,
)
from tests.reduction.decoder.test_turns import first_turn
from tests.reduction.test_turns import longer
from vtc import Recipe, reduce_tokens, restore
from vtc.reduction.decoder import (
    apply_cut as choose,
)
from vtc.reduction.decoder import (
    engine,
    mask,
)
from vtc.reduction.decoder import (
    prefill_state as step,
)
from vtc.reduction.decoder import sparse_cache as caches
from vtc.reduction.decoder.attention_capture import AttentionCapture
from vtc.reduction.decoder.sparse_cache import KeptPositions, shortened_class

caught = pytest.raises(AssertionError)


def check(model: Any, family: Any, inputs: Any, out: Any, **changes: Any) -> None:
    plans = [replace(planned_cuts, **changes) for planned_cuts in told(model, family, inputs)]
    check_decoding(stock(family), plans, out.sequences, steps(out))


@pytest.mark.parametrize("schedule", ["layer-0", "once", "withdraw", "folding"])
@four
def test_an_oracle_from_which_nothing_left_is_another(family, schedule):
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(BATCHES["uneven"])
    out = generate(model, inputs)
    check(model, family, inputs, out)
    with pytest.raises(AssertionError, match="not close"):
        check(model, family, inputs, out, gone={}, folded={})


@four
def test_positions_that_are_renumbered(family, monkeypatch):
    """As PyramidDrop's code does it: angles of the first places instead of the own ones."""
    real = engine.PrefillState.rotary

    def renumbered(self: Any, angles: Any, device: Any) -> Any:
        cos, sin = real(self, angles, device)
        return (cos, sin) if self.remaining is None else tuple(a[:, : cos.shape[1]].expand_as(cos) for a in angles)

    monkeypatch.setattr(engine.PrefillState, "rotary", renumbered)
    model, inputs = wrapped(family, recipe("once")), family.inputs(BATCHES["one"])
    with pytest.raises(AssertionError, match="not close"):
        check(model, family, inputs, generate(model, inputs))


@four
def test_a_mask_that_is_not_remapped(family, monkeypatch):
    monkeypatch.setattr(engine, "remapped", lambda mask, slots, *rest: None)
    model, inputs = wrapped(family, recipe("once")), family.inputs(BATCHES["uneven"])
    with pytest.raises(AssertionError, match="not close"):
        check(model, family, inputs, generate(model, inputs))


@four
def test_fillers_that_are_seen(family, monkeypatch):
    monkeypatch.setattr(step, "KeptPositions", lambda position, valid, end: KeptPositions(position, None, end))
    model, inputs = wrapped(family, recipe("adaptive")), family.inputs(BATCHES["even"])
    with pytest.raises(AssertionError, match="not close"):
        check(model, family, inputs, generate(model, inputs))


@four
def test_lengths_that_are_those_of_the_slots(family, monkeypatch):
    """A layer 0 that reports what it holds: the next turn is read at wrong places, or does not fit."""
    monkeypatch.setattr(caches, "ShortenedDynamicLayer", None)  # it is put back behind the test
    monkeypatch.setattr(caches, "_CLASSES", {})
    monkeypatch.setitem(caches._BODY, "get_seq_length", lambda self: type(self)._base.get_seq_length(self))
    model, inputs = wrapped(family, recipe("layer-0")), family.inputs(BATCHES["uneven"])
    with pytest.raises((AssertionError, RuntimeError, IndexError, ValueError)):
        check(model, family, inputs, generate(model, inputs))


@four
def test_a_stage_that_is_given_other_states(family, monkeypatch):
    real = choose.gathered
    monkeypatch.setattr(choose, "gathered", lambda values, columns: real(values, columns).roll(1, dims=1))
    model, inputs = wrapped(family, recipe("once")), family.inputs(BATCHES["one"])
    with pytest.raises(AssertionError, match="not close"):
        check(model, family, inputs, generate(model, inputs))
    assert torch.is_grad_enabled()


def level(family: Any) -> list[Any]:
    """Rows of one length, with unlike numbers of visual tokens: there is no padding, and so no mask."""
    rows = [[3, (1, 12, 4), 4], [3, (1, 12, 4), 2, (2, 4, 8), 4]]
    lengths = family.inputs(rows)["attention_mask"].sum(dim=1).tolist()
    return [[*rows[0], lengths[1] - lengths[0]], rows[1]]


@four
def test_an_oracle_that_masks_another_token(family):
    model, inputs = wrapped(family, recipe("once")), family.inputs(BATCHES["one"])
    out = generate(model, inputs)
    (planned_cuts,) = told(model, family, inputs)
    gone = planned_cuts.gone[1]
    spared = next(k for k in planned_cuts.places[0] if k not in gone)
    with caught:
        check_decoding(stock(family), [replace(planned_cuts, gone={1: [*gone[1:], spared]})], out.sequences, steps(out))


@four
def test_an_oracle_that_folds_otherwise(family):
    model, inputs = wrapped(family, recipe("folding")), family.inputs(BATCHES["one"])
    out = generate(model, inputs)
    (planned_cuts,) = told(model, family, inputs)
    check_decoding(stock(family), [planned_cuts], out.sequences, steps(out))
    even = {layer: [(t, m, [1.0] * len(m)) for t, m, _ in folds] for layer, folds in planned_cuts.folded.items()}
    with caught:
        check_decoding(stock(family), [replace(planned_cuts, folded=even)], out.sequences, steps(out))


@four
def test_masks_of_steps_that_are_not_remapped(family, monkeypatch):
    monkeypatch.setattr(engine.Engine, "_resume", lambda *args: None)
    model, inputs = wrapped(family, recipe("pyramid")), family.inputs(BATCHES["uneven"])
    with pytest.raises(RuntimeError, match="size of tensor"):
        generate(model, inputs)


@four
def test_a_cache_that_forgets_what_it_lacks(family):
    model, inputs = wrapped(family, recipe("once")), family.inputs(BATCHES["uneven"])
    first = first_turn(model, inputs)
    ids, given_mask, _ = longer(family, inputs, first.sequences)
    for layer in first[CACHE].layers:
        layer.slots = None
    with pytest.raises(RuntimeError, match="size of tensor"):
        generate(model, {"input_ids": ids, "attention_mask": given_mask, CACHE: first[CACHE]})


@four
def test_rows_that_are_reordered_without_their_slots(family, monkeypatch):
    def careless(self: Any, beams: Any) -> None:
        DynamicLayer.reorder_cache(self, beams)

    monkeypatch.setattr(shortened_class(DynamicLayer), "reorder_cache", careless)
    with caught:
        test_caches.test_rows_may_be_repeated_reordered_and_selected(family, "adaptive")


@four
def test_a_tap_that_stays_behind(family, monkeypatch):
    model = fresh(family)
    held = test_wrappers.configs(model)
    monkeypatch.setattr(AttentionCapture, "remove", lambda self: None)
    restore(reduce_tokens(model, test_wrappers.READING))
    assert test_wrappers.configs(model) != held


def test_a_step_that_cannot_be_compiled_in_one(monkeypatch):
    resume = engine.Engine._resume

    def broken(*args: Any) -> None:
        torch._dynamo.graph_break()
        resume(*args)

    torch._dynamo.reset()
    monkeypatch.setattr(engine.Engine, "_resume", broken)
    config = CompileConfig(backend="aot_eager", fullgraph=True, dynamic=False, mode=None)
    config._compile_all_devices = True
    model, inputs = wrapped(LLAVA, recipe("pyramid")), LLAVA.inputs(BATCHES["one"])
    with pytest.raises(torch._dynamo.exc.Unsupported):
        generate(model, inputs, cache_implementation="static", compile_config=config)


class Leaning(ByLot):
    """Chooses by how often it was asked: by the place in the batch."""

    name = "leaning"
    asked = []  # noqa: RUF012

    def keep(self, tokens: Any, count: int, cut: Any) -> torch.Tensor:
        self.asked.append(count)
        return torch.arange(count) + len(self.asked) % 2


def test_a_choice_that_depends_on_the_batch():
    rows, model = BATCHES["even"], wrapped(LLAVA, Recipe((Leaning(),)))
    together = steps(generate(model, LLAVA.inputs(rows)))
    Leaning.asked.clear()
    alone = steps(generate(model, LLAVA.inputs(rows[1:])))
    with caught:
        check_close(alone[0], together[1], "row 1 alone")


@four
def test_beams_of_another_oracle(family):
    model, inputs = wrapped(family, recipe("once")), family.inputs(BATCHES["uneven"])
    out = generate(model, inputs, num_beams=2, output_scores=True)
    plans = told(model, family, inputs)
    check_beams(stock(family), plans, out, length=4)
    with caught:
        check_beams(stock(family), [replace(planned_cuts, gone={}) for planned_cuts in plans], out, length=4)


@four
def test_rows_of_one_length_have_no_mask_to_remap(family, monkeypatch):
    rows = level(family)
    model, inputs = wrapped(family, recipe("pyramid")), family.inputs(rows)
    assert bool(inputs["attention_mask"].all())
    check(model, family, inputs, generate(model, inputs))
    monkeypatch.setattr(mask, "_built", lambda *args: None)
    with caught:
        check(model, family, inputs, generate(model, inputs))
