"""Gradients through decoder stages are those of the run in which what left is masked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.checks import check_close
from tests.families import visual
from tests.grid import fresh
from tests.reduction.decoder.common import (
    BATCHES,
    every_schedule,
    four,
    recipe,
    told,
    wrapped,
)
from vtc import Recipe
from vtc.reduction.decoder import engine
from vtc.stages import PyramidDrop, SparseVLM

ROWS = BATCHES["uneven"]


def masked_loss(family: Any, model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> tuple[Tensor, nn.Module]:
    """The loss of a stock model that is given masks instead, one call a row; its gradients are left on it.

    A label behind a token that left is predicted by the nearest token before it that did not.
    """
    plain = fresh(family)
    total, count = torch.zeros(()), 0
    with torch.enable_grad():
        for r, planned_cuts in enumerate(told(model, family, inputs)):
            lost = {token for tokens in planned_cuts.gone.values() for token in tokens}
            logits = _logits(plain, planned_cuts)
            row = labels[r, planned_cuts.columns]
            for i in range(1, len(row)):
                if row[i] == -100:
                    continue
                source = max(k for k in range(i) if k not in lost)
                total = total + torch.nn.functional.cross_entropy(logits[source][None].float(), row[i][None])
                count += 1
        loss = total / count
        loss.backward()
    return loss.detach(), plain


def _logits(model: nn.Module, planned_cuts: Any) -> Tensor:
    """`oracle.logits`, with gradients of the decoder."""
    from tests.oracle import _by_layer

    embeds = planned_cuts.embeds[None].detach()
    return model.lm_head(_by_layer(model, planned_cuts, embeds, planned_cuts.positions[:, None]))[0]


def decoder_gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in model.get_decoder().layers.named_parameters() if p.grad is not None}


def checkpointed(model: Any, **options: Any) -> None:
    """Gradient checkpointing, by the name that this version of transformers has for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(options)
    model.enable_input_require_grads()
    model.train()


@pytest.mark.parametrize("checkpointing", [False, True])
@every_schedule
@four
def test_gradients_equal_those_of_the_masked_run(family, schedule, checkpointing):
    inputs = family.inputs(ROWS)
    model = wrapped(family, recipe(schedule))
    if checkpointing:
        checkpointed(model, use_reentrant=False)
    # Nothing real stands before a row's first token, from which it could be predicted.
    unpredicted = visual(inputs["input_ids"], model) | (inputs["attention_mask"].cumsum(dim=1) <= 1)
    labels = inputs["input_ids"].masked_fill(unpredicted, -100)
    loss = model(**inputs, labels=labels, use_cache=False).loss
    loss.backward()
    want, plain = masked_loss(family, model, inputs, labels)
    check_close(loss.detach(), want, "loss")
    found, expected = decoder_gradients(model), decoder_gradients(plain)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max()
        assert (found[name] - value).abs().max() <= 1e-4 * scale, name


@four
def test_another_schedule_has_other_gradients(family):
    """A control."""
    inputs = family.inputs(BATCHES["one"])
    found = []
    for schedule in ("once", "withdraw"):
        model = wrapped(family, recipe(schedule))
        ids = inputs["input_ids"]
        model(**inputs, labels=ids.masked_fill(visual(ids, model), -100)).loss.backward()
        found.append(decoder_gradients(model))
    assert any((found[0][name] - found[1][name]).abs().max() > 1e-3 * found[0][name].abs().max() for name in found[0])


@four
def test_gradients_reach_the_encoder(family):
    model = wrapped(family, recipe("folding"))
    inputs = family.inputs(BATCHES["one"])
    ids = inputs["input_ids"]
    model(**inputs, labels=ids.masked_fill(visual(ids, model), -100)).loss.backward()
    grads = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("visual" in name or "vision" in name for name in grads)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("stage", [PyramidDrop(((1, 0.5), (2, 0.25))), SparseVLM(((1, 0.6), (2, 0.3)))], ids=str)
@four
def test_checkpointing_changes_no_gradient(family, stage, reentrant):
    """Of stages that read attention, with a cache asked for as by default."""
    inputs, found = family.inputs(ROWS), []
    for checkpointing in (False, True):
        model = wrapped(family, Recipe((stage,)))
        if checkpointing:
            checkpointed(model, use_reentrant=reentrant)
        ids = inputs["input_ids"]
        model(**inputs, labels=ids.masked_fill(visual(ids, model), -100)).loss.backward()
        found.append(decoder_gradients(model))
    assert len(found[0]) > 20
    for name, gradient in found[0].items():
        check_close(found[1][name], gradient, name)


@pytest.mark.parametrize("side", ["left", "right"])
@every_schedule
@four
@torch.no_grad()
def test_labels_at_dropped_positions_count_as_the_full_logits_have_them(family, schedule, side):
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(ROWS, side)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"].cumsum(dim=1) <= 1, -100)
    labels = labels.masked_fill(inputs["attention_mask"] == 0, -100)
    out = model(**inputs, labels=labels)
    assert out.logits.shape[:2] == labels.shape
    want = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    check_close(out.loss, want, "loss")


@four
def test_states_that_carry_no_gradient_are_found(family, monkeypatch):
    """A control."""
    cut = engine.cut_before
    monkeypatch.setattr(engine, "cut_before", lambda *args: cut(*args).detach())
    with pytest.raises(AssertionError):
        test_gradients_equal_those_of_the_masked_run(family, "once", False)
