"""A recipe that was saved and loaded is the same recipe."""

from __future__ import annotations

import pytest

from tests.checks import check_same
from tests.grid import (
    UNEVEN,
    Case,
    cases,
    generate,
    kept,
    steps,
)
from vtc import Recipe, reduce_tokens


# A file knows no family.
@pytest.mark.parametrize("case", {case.recipe.name: case for case in cases()}.values(), ids=str)
def test_a_loaded_recipe_keeps_the_same_tokens(case: Case, tmp_path):
    path = tmp_path / "recipe.json"
    case.recipe.save(path)
    assert Recipe.load(path) == case.recipe
    inputs = case.family.inputs(UNEVEN)
    model = case.model()
    want, chosen = generate(model, inputs, tokens=2), kept(model)
    for spec in (path, str(path)):
        again = reduce_tokens(model, spec)
        check_same(steps(generate(again, inputs, tokens=2)), steps(want), "logits")
        assert kept(again) == chosen
        assert again.vtc.report.recipe == case.recipe.name
