"""What the language model is given: text untouched, kept tokens where they were (or renumbered without gaps)."""

from __future__ import annotations

import pytest
import torch

from tests import oracle
from tests.checks import (
    check_compact,
    check_forward,
    check_original,
    check_same,
    check_text,
    kept_columns,
)
from tests.encoders import ENCODERS
from tests.families import VARIANTS
from tests.grid import (
    PROMPTS,
    SEVERAL,
    Case,
    cases,
    every_case,
    every_method,
    generate,
    over,
    stock,
    watching,
)

wide = over(cases() + cases(VARIANTS))
prompts = pytest.mark.parametrize("rows", PROMPTS.values(), ids=PROMPTS)


def unreduced(case: Case, inputs) -> list[torch.Tensor]:
    """`[axes, L]` positions of each row of the unreduced prompt, without padding."""
    encoder, model = ENCODERS[case.family.name], stock(case.family)
    images, rows = encoder.images(inputs), []
    for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        line = ids[mask.bool()].tolist()
        rows.append(encoder.positions(model, line, oracle.taken(model, encoder, line, images)))
    return rows


@wide
@prompts
@torch.no_grad()
def test_forward_is_given_the_text_untouched_at_its_places(case: Case, rows):
    for side in ("left", "right"):
        inputs = case.family.inputs(rows, side)
        with watching(model := case.model()) as calls:
            model(**inputs)
        check_prompt(case, inputs, model, calls[0])


@over(cases())
def test_generate_is_given_the_text_untouched_at_its_places(case: Case):
    inputs = case.family.inputs(PROMPTS["uneven"])
    model = case.model()
    with watching(model) as calls:
        out = generate(model, inputs)
    assert torch.equal(out.sequences[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    check_prompt(case, inputs, model, calls[0])
    for t, call in enumerate(calls[1:]):
        for first, row in zip(calls[0], call, strict=True):
            assert row.positions.flatten().tolist() == [int(first.positions[:, -1].max()) + 1 + t] * len(row.positions)


def check_prompt(case: Case, inputs, model, rows) -> None:
    report = model.vtc.report
    check_text(model, inputs, report, rows)
    if case.recipe.positions == "compact":
        check_compact(rows)
        return
    starts = [int(mask.nonzero()[0]) for mask in inputs["attention_mask"]]
    columns = kept_columns(inputs, report, model)
    unpadded = [[c - start for c in row] for row, start in zip(columns, starts, strict=True)]
    check_original(unpadded, unreduced(case, inputs), rows)


@every_method
@torch.no_grad()
def test_positions_that_the_caller_gives_are_taken(case: Case):
    inputs = case.family.inputs(SEVERAL)
    (full,) = unreduced(case, inputs)
    given = (2 * full + 7)[:, None]
    model = case.model()
    with watching(model) as calls:
        model(**inputs, position_ids=given if len(given) > 1 else given[0])
    (columns,) = kept_columns(inputs, model.vtc.report, model)
    check_same(calls[0][0].positions, given[:, 0, columns], "positions")


@every_case
@torch.no_grad()
def test_text_that_is_masked_inside_a_row_is_left_out(case: Case):
    inputs = case.family.inputs(PROMPTS["uneven"])
    inputs["attention_mask"][0, 2] = 0
    inputs["attention_mask"][1, -3] = 0
    plans = oracle.plans(stock(case.family, "eager"), case.family, inputs, case.recipe)
    check_forward(stock(case.family), plans, case.model()(**inputs).logits)
