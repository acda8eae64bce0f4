"""The wrapped model equals the slow oracle: a prompt shortened by hand, decoded in a loop without cache or padding."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests import oracle
from tests.checks import (
    check_beams,
    check_decoding,
    check_forward,
    check_given,
    check_kept,
)
from tests.families import VARIANTS
from tests.grid import (
    PROMPTS,
    Case,
    cases,
    every_case,
    generate,
    marked,
    over_all,
    steps,
    stock,
    watching,
)
from vtc import Recipe


@cache
def planned(family, recipe: Recipe, prompt: str) -> list[oracle.Plan]:
    """The oracle's rows for a left-padded prompt."""
    return oracle.plans(stock(family, "eager"), family, family.inputs(PROMPTS[prompt]), recipe)


@over_all(cases(), "attention", ["sdpa", "eager"])
def test_prefill_and_every_greedy_step(case: Case, attention):
    inputs = case.family.inputs(PROMPTS["uneven"])
    plans = planned(case.family, case.recipe, "uneven")
    model = case.model(attention)
    with watching(model) as calls:
        out = generate(model, inputs, tokens=5)
    check_kept(model.vtc.report, plans)
    check_given(calls[0], plans)
    check_decoding(stock(case.family, attention), plans, out.sequences, steps(out))


@pytest.mark.parametrize(
    ("case", "attention"),
    [marked(c, "sdpa") for c in cases()] + [marked(c, "eager") for c in cases(positions=["original"])],
    ids=str,
)
def test_beams(case: Case, attention):
    inputs = case.family.inputs(PROMPTS["uneven"])
    model = case.model(attention)
    out = generate(model, inputs, tokens=5, num_beams=2, num_return_sequences=2, output_scores=True)
    check_beams(stock(case.family, attention), planned(case.family, case.recipe, "uneven"), out, length=5)


@over_all(cases() + cases(VARIANTS), "prompt", list(PROMPTS))
@torch.no_grad()
def test_forward(case: Case, prompt):
    plans = planned(case.family, case.recipe, prompt)
    model = case.model()
    logits = model(**case.family.inputs(PROMPTS[prompt])).logits
    check_kept(model.vtc.report, plans)
    check_forward(stock(case.family), plans, logits)


@every_case
@torch.no_grad()
def test_forward_padded_right(case: Case):
    inputs = case.family.inputs(PROMPTS["uneven"], "right")
    plans = oracle.plans(stock(case.family, "eager"), case.family, inputs, case.recipe)
    check_forward(stock(case.family), plans, case.model()(**inputs).logits)
