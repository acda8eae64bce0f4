"""keep=1.0 is the identity, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.checks import check_same
from tests.families import visual
from tests.grid import (
    PROMPTS,
    UNEVEN,
    Case,
    cases,
    generate,
    over,
    steps,
    stock,
)

# A recipe that drops nothing is told apart before its positions matter: one recipe shows it for `compact`.
ALL = [c for c in cases() if c.recipe.positions == "original" or c.recipe.name == "kcenter-mean"]
whole = over(ALL)
bounded = over([c for c in ALL if all(s is None or s.own_share is None for s in (c.recipe.input, c.recipe.encoder))])
"""Those without a stage that has a share of its own, which a ceiling on the number of tokens does not lift."""


def check_is_stock(case: Case, keep: float) -> None:
    """Holds generated tokens, their logits and those of `forward` against the stock model, bit for bit."""
    inputs = case.family.inputs(UNEVEN)
    model = replace(case, recipe=replace(case.recipe, keep=keep)).model()
    got, want = generate(model, inputs, tokens=3), generate(stock(case.family), inputs, tokens=3)
    check_same(got.sequences, want.sequences, "tokens")
    check_same(steps(got), steps(want), "logits of generate")
    with torch.no_grad():
        check_same(model(**inputs).logits, stock(case.family)(**inputs).logits, "logits of forward")


@whole
def test_keeping_all_is_the_stock_model(case: Case):
    check_is_stock(case, 1.0)


@bounded
def test_a_ceiling_above_all_is_the_stock_model(case: Case):
    check_is_stock(case, 10_000)


@whole
@pytest.mark.parametrize("rows", PROMPTS.values(), ids=PROMPTS)
def test_keeping_all_is_reported_as_nothing_lost(case: Case, rows):
    inputs = case.family.inputs(rows)
    model = replace(case, recipe=replace(case.recipe, keep=1.0)).model()
    with torch.no_grad():
        model(**inputs)
    report = model.vtc.report
    assert report.before == report.after == int(visual(inputs["input_ids"], model).sum())
    assert report.prompt_before == report.prompt_after == tuple(inputs["attention_mask"].sum(dim=1).tolist())
    assert report.kv_bytes_saved == 0
    assert all(item.reduction.anchor.tolist() == list(range(len(item.layout))) for item in report.items)
