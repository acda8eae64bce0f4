"""The checks of exactness fail where the engine is broken in ways that are easy to get wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.checks import check_decoding
from tests.decoder.common import BATCHES, four, recipe, told, wrapped
from tests.grid import generate, steps, stock
from vtc.decoder import cache as caches
from vtc.decoder import choose, engine
from vtc.decoder.cache import Slots


def check(model: Any, family: Any, inputs: Any, out: Any, **changes: Any) -> None:
    plans = [replace(plan, **changes) for plan in told(model, family, inputs)]
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
def test_positions_that_are_numbered_anew(family, monkeypatch):
    """As PyramidDrop's code does it: angles of the first places instead of the own ones."""
    real = engine.Step.turned

    def renumbered(self: Any, device: Any) -> Any:
        cos, sin = real(self, device)
        return (cos, sin) if self.here is None else tuple(a[:, : cos.shape[1]].expand_as(cos) for a in self.angles)

    monkeypatch.setattr(engine.Step, "turned", renumbered)
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
    monkeypatch.setattr(engine, "Slots", lambda position, valid, end: Slots(position, None, end))
    model, inputs = wrapped(family, recipe("adaptive")), family.inputs(BATCHES["even"])
    with pytest.raises(AssertionError, match="not close"):
        check(model, family, inputs, generate(model, inputs))


@four
def test_lengths_that_are_those_of_the_slots(family, monkeypatch):
    """A layer 0 that reports what it holds: the next turn is read at wrong places, or does not fit."""
    monkeypatch.setattr(caches, "_CLASSES", {})
    monkeypatch.setattr(caches, "ShortenedDynamicLayer", None, raising=False)  # it is put back behind the test
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
