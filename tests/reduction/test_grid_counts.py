"""Kept counts are exact and known beforehand; what is kept is sorted and unique."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.checks import check_chosen, check_counts, check_same
from tests.encoders import ENCODERS
from tests.families import VARIANTS, visual
from tests.grid import (
    PROMPTS,
    Case,
    cases,
    generate,
    over,
    over_all,
    steps,
    stock,
    watching,
)
from vtc import Budget
from vtc.stages import Resizer

exact = [c for c in cases() + cases(VARIANTS, ["original"]) if not c.recipe.adaptive]


def words(inputs, model) -> list[int]:
    text = ~visual(inputs["input_ids"], model)
    return (text & inputs["attention_mask"].bool()).sum(dim=1).tolist()


@over_all(exact, "prompt", list(PROMPTS))
def test_declared_reported_and_given_counts_are_one(case: Case, prompt):
    inputs = case.family.inputs(PROMPTS[prompt])
    model = case.model()
    declared = model.vtc.count(**inputs)
    with watching(model) as calls, torch.no_grad():
        model(**inputs)
    check_counts(declared, model.vtc.report, calls[0], words(inputs, model))
    for item in model.vtc.report.items:
        check_chosen(item.reduction.anchor, len(item.layout))


@over(cases(positions=["original"]))
def test_a_text_only_prompt_counts_nothing_and_is_the_stock_model(case: Case):
    inputs = case.family.inputs([[4], [9]])
    model = case.model()
    assert model.vtc.count(**inputs) == []
    got, want = generate(model, inputs), generate(stock(case.family), inputs)
    check_same(steps(got), steps(want), "logits")
    assert model.vtc.report.items == ()
    assert model.vtc.report.before == model.vtc.report.after == 0


@over([c for c in cases(positions=["original"]) if not c.recipe.adaptive])
@pytest.mark.parametrize("keep", [0.01, 0.5, 0.99, 1, 11])
def test_generate_is_given_what_was_declared(case: Case, keep):
    inputs = case.family.inputs(PROMPTS["adjacent"])
    model = replace(case, recipe=replace(case.recipe, keep=keep)).model()
    if spare_of_frames(case, inputs, keep):
        with pytest.raises(ValueError, match=r"keep=\S+ leaves \d+ tokens for \d+ frames.*'input/\w+'"):
            model.vtc.count(**inputs)
        return
    if spare_of_layers(case, keep):
        with pytest.raises(ValueError, match=r"keep leaves \d+ of 36 patches, .*2 layers .* 9; keep"):
            generate(model, inputs, tokens=2)
        return
    declared = model.vtc.count(**inputs)
    with watching(model) as calls:
        generate(model, inputs, tokens=2)
    check_counts(declared, model.vtc.report, calls[0], words(inputs, model))
    if isinstance(keep, int):
        assert all(item.after <= keep for item in model.vtc.report.items)
    assert all(item.after >= 1 for item in model.vtc.report.items)
    assert [len(row.embeds) for row in calls[1]] == [1] * len(calls[1])


def spare_of_frames(case: Case, inputs, keep) -> bool:
    """Whether a stage that drops no frame is asked for fewer tokens than a video has frames."""
    if not isinstance(case.recipe.input, Resizer):
        return False
    encoder, model = ENCODERS[case.family.name], stock(case.family)
    layouts = [encoder.layout(model, image) for image in encoder.images(inputs)]
    budget = Budget(case.recipe.input.own_share or keep)
    return any(budget.count(sum(layout.candidates)) < len(layout.grids) for layout in layouts)


def spare_of_layers(case: Case, keep) -> bool:
    """Whether an encoder stage alone is asked for more than its two layers can fold of 36 patches."""
    stage = case.recipe.encoder
    return stage is not None and stage.own_share is None and Budget(keep).count(36) < 9
