"""Recipes that change with the optimiser's steps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.checks import footprint
from tests.families import visual
from tests.grid import fresh
from tests.reduction.decoder.common import BATCHES, FOUR
from vtc.integrations.trainer import RecipeSchedule, llavolta

LLAVA = FOUR[0]


def sizes(model: nn.Module) -> tuple[int, ...]:
    """Visual tokens of each layer in a call."""
    model(**LLAVA.inputs(BATCHES["one"]))
    handle = model.__dict__.get("vtc")
    return () if handle is None else handle.report.decoder.layers


def test_llavoltas_stages_end_at_their_pivots():
    schedule = llavolta()
    assert [schedule.due(step) for step in (0, 1299, 1300, 2599, 2600, 3899, 3900, 10**6)] == [0, 0, 1, 1, 2, 2, 3, 3]
    found = [None if r is None else r.decoder[0].schedule for _, r in schedule.entries]
    assert found == [((2, 1 / 8),), ((2, 1 / 2),), ((16, 1 / 2),), None]


def test_the_model_is_wrapped_again_and_given_back():
    model = fresh(LLAVA)
    assert sizes(model) == ()  # transformers leaves hooks of its own in the first call
    before = footprint(model)
    schedule = llavolta(stages=((1, 4), (0.7, 2)), pivots=(2, 3))
    state = SimpleNamespace(global_step=0)
    schedule.on_train_begin(None, state, None, model=model)
    assert sizes(model) == (36, 9, 9)
    handle = model.vtc
    state.global_step = 1
    schedule.on_step_begin(None, state, None, model=model)
    assert model.vtc is handle  # nothing changes between pivots
    state.global_step = 2
    schedule.on_step_begin(None, state, None, model=model)
    assert sizes(model) == (36, 36, 18)
    state.global_step = 3
    schedule.on_step_begin(None, state, None, model=model)
    assert sizes(model) == ()
    schedule.on_train_end(None, state, None, model=model)
    assert footprint(model) == before


def test_a_run_that_goes_on_finds_its_place():
    model, schedule = fresh(LLAVA), llavolta(stages=((1, 4), (1, 2)), pivots=(2, 5))
    schedule.on_train_begin(None, SimpleNamespace(global_step=4), None, model=model)
    assert sizes(model) == (36, 18, 18)


def test_wrong_schedules_are_refused():
    with pytest.raises(ValueError, match="expected 0 first"):
        RecipeSchedule([(5, "fastv")])
    with pytest.raises(ValueError, match="expected 0 first"):
        RecipeSchedule([(0, "fastv"), (0, None)])
    with pytest.raises(ValueError, match="unknown recipe 'fastw'; did you mean 'fastv'"):
        RecipeSchedule([(0, "fastw")])
    with pytest.raises(ValueError, match=r"pivots=\(10,\) .* 1 .* 3"):
        llavolta(pivots=(10,))


def test_a_trainer_follows_it_by_optimiser_steps(tmp_path):
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    model, inputs = fresh(LLAVA), LLAVA.inputs(BATCHES["one"])
    labels = inputs["input_ids"].masked_fill(visual(inputs["input_ids"], model), -100)
    rows = [{**{k: v[0] for k, v in inputs.items()}, "labels": labels[0]}] * 8
    seen = []

    class Watch(RecipeSchedule):
        def on_step_end(self, args, state, control, **kwargs):
            handle = kwargs["model"].__dict__.get("vtc")
            seen.append(() if handle is None else handle.report.decoder.layers)

    arguments = TrainingArguments(
        tmp_path,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        max_steps=4,
        learning_rate=1e-3,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    start = {name: value.clone() for name, value in model.named_parameters()}
    schedule = Watch([(0, llavolta(((1, 4),), (1,)).entries[0][1]), (2, "layerwise"), (3, None)])
    Trainer(model, arguments, train_dataset=rows, callbacks=[schedule]).train()
    assert seen == [(36, 9, 9), (36, 9, 9), (36, 18, 9), ()]
    assert "vtc" not in model.__dict__
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, start[name])]
    assert any("language_model" in name for name in moved)


def test_a_layer_that_does_not_exist_is_refused_before_the_first_step():
    """Not at step 2600, where LLaVolta's stage for layer 16 of 32 begins."""
    model, schedule = fresh(LLAVA), llavolta()
    with pytest.raises(ValueError, match=r"schedule names layer 16, .* 0 to 2"):
        schedule.on_train_begin(None, SimpleNamespace(global_step=0), None, model=model)
    assert "vtc" not in model.__dict__
    schedule.on_train_begin(None, SimpleNamespace(global_step=3900), None, model=model)  # nothing of it is left to do
    assert "vtc" not in model.__dict__


def test_a_trainer_that_resumes_finds_its_place(tmp_path):
    """Stopped after 3 of 5 optimiser steps and gone on from the checkpoint: the stages are those of one whole run."""
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    inputs = LLAVA.inputs(BATCHES["one"])
    labels = inputs["input_ids"].masked_fill(visual(inputs["input_ids"], fresh(LLAVA)), -100)
    rows = [{**{k: v[0] for k, v in inputs.items()}, "labels": labels[0]}] * 10
    seen: list[tuple[int, tuple[int, ...]]] = []

    class Watch(RecipeSchedule):
        def on_step_end(self, args, state, control, **kwargs):
            handle = kwargs["model"].__dict__.get("vtc")
            seen.append((state.global_step, () if handle is None else handle.report.decoder.layers))
            control.should_save = control.should_training_stop = state.global_step == 3
            return control

    options = dict(per_device_train_batch_size=1, gradient_accumulation_steps=2, max_steps=5, learning_rate=1e-3)
    quiet = dict(report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True)
    for checkpoint in (None, str(tmp_path / "checkpoint-3")):
        model = fresh(LLAVA)
        schedule = Watch(llavolta(stages=((1, 4), (1, 2)), pivots=(2, 4)).entries)
        arguments = TrainingArguments(str(tmp_path), **options, **quiet)
        Trainer(model, arguments, train_dataset=rows, callbacks=[schedule]).train(resume_from_checkpoint=checkpoint)
        assert "vtc" not in model.__dict__
    assert seen == [(1, (36, 9, 9)), (2, (36, 9, 9)), (3, (36, 18, 18)), (4, (36, 18, 18)), (5, ())]
