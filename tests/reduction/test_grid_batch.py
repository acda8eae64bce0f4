"""Rows of a batch do not meet: a batch equals its singles, wherever it is padded and however it is ordered."""

from __future__ import annotations

import pytest
import torch

from tests.checks import check_close
from tests.grid import (
    UNEVEN,
    Case,
    every_family,
    every_method,
    fresh,
    generate,
    kept_by_row,
    steps,
)
from vtc import reduce_tokens

ORDER = [2, 0, 1]


@every_method
def test_generating_for_a_batch_equals_its_singles(case: Case):
    model = case.model()
    batch = generate(model, case.family.inputs(UNEVEN))
    chosen = kept_by_row(model, len(UNEVEN))
    for r, row in enumerate(UNEVEN):
        alone = generate(model, case.family.inputs([row]))
        assert kept_by_row(model, 1) == [chosen[r]]
        check_close(steps(batch)[r], steps(alone)[0], f"row {r}: logits")
        assert batch.sequences[r, -4:].tolist() == alone.sequences[0, -4:].tolist()


@every_method
@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_forward_of_a_batch_equals_its_singles(case: Case, side):
    model = case.model()
    inputs = case.family.inputs(UNEVEN, side)
    batch = model(**inputs).logits
    assert batch.shape[:2] == inputs["input_ids"].shape
    chosen = kept_by_row(model, len(UNEVEN))
    for r, row in enumerate(UNEVEN):
        alone = model(**case.family.inputs([row])).logits
        assert not chosen[r] or kept_by_row(model, 1) == [chosen[r]]
        check_close(batch[r][inputs["attention_mask"][r].bool()], alone[0], f"row {r}: logits")


@every_method
def test_permuting_the_batch_permutes_the_answer(case: Case):
    model = case.model()
    before = generate(model, case.family.inputs(UNEVEN))
    chosen = kept_by_row(model, len(UNEVEN))
    after = generate(model, case.family.inputs([UNEVEN[i] for i in ORDER]))
    assert kept_by_row(model, len(UNEVEN)) == [chosen[i] for i in ORDER]
    assert torch.equal(after.sequences[:, -4:], before.sequences[ORDER, -4:])
    check_close(steps(after), steps(before)[ORDER], "logits")


@every_family
def test_generate_without_a_mask_finds_the_padding_as_the_stock_model_does(family):
    inputs = family.inputs(UNEVEN)
    model = reduce_tokens(fresh(family), "stride", keep=0.4)
    want = generate(model, inputs)
    del inputs["attention_mask"]
    check_close(steps(generate(model, inputs)), steps(want), "logits")


@every_family
@torch.no_grad()
def test_a_forward_without_images_is_reported_as_such(family):
    model = reduce_tokens(fresh(family), "stride", keep=0.4)
    model(**family.inputs(UNEVEN[:1]))
    model(**family.inputs(UNEVEN[2:]))
    assert model.vtc.report.items == ()
