"""Recipes below `random`: found by interval, let through only with a reason, and the reasons stand in the docs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.core.test_statistics import results
from vtc import embedded
from vtc.bench.explained import (
    EXPLAINED,
    Explained,
    below_random,
    unexplained,
)
from vtc.bench.journal import BenchRow
from vtc.bench.results import _variants
from vtc.cli.main import app
from vtc.recipes.registration import RECIPES

DOCS = Path(__file__).parents[2] / "docs" / "below-random.md"


def compared(rates: dict[str, float]) -> list[dict]:
    """What the document says of recipes that are right at these rates."""
    made = results(rates)
    exact = made.values["exact"]
    values = dict.fromkeys(("exact", "agreement", "kl", "tokens", "layers"), exact)
    return _variants(replace(made, values=values, errors={variant.key: {} for variant in made.variants}), 300, 0)


def found(rates: dict[str, float], model: str = "tiny-llava", scenes: int = 100) -> list[tuple[str, str | None]]:
    made = below_random(model, scenes, compared({"random": 0.6, **rates}))
    return [(one["recipe"], one["why"]) for one in made]


def test_a_recipe_below_random_is_found_and_no_other():
    assert found({"maxsum": 0.4, "kcenter": 0.8, "stride": 0.6}) == [("maxsum", None)]


def test_a_recipe_of_ones_own_and_too_few_images_are_let_be():
    assert found({"mine": 0.4}) == []
    assert found({"maxsum": 0.4}, scenes=29) == []


def test_what_is_explained_has_its_reason_on_that_model_alone():
    reason = next(one.why for one in EXPLAINED if (one.recipe, one.model) == ("resize", "tiny-llava"))
    assert found({"resize": 0.4}) == [("resize", reason)]
    assert found({"resize": 0.4}, "tiny-internvl") == [("resize", None)]


def test_without_random_nothing_is_said():
    assert below_random("tiny-llava", 100, compared({"maxsum": 0.4})) == []


def answers(rates: dict[str, float]):
    """In place of the workers: each recipe is right on that share of the questions, whatever it is asked."""

    def work(bench_config, done, jobs):
        for model in bench_config.models:
            level = np.random.default_rng(0).random(len(bench_config.cases(model)))
            for variant in bench_config.variants:
                for case, at in zip(bench_config.cases(model), level, strict=True):
                    right = bool(at < rates.get(variant.name, 0.9))
                    yield BenchRow(model, variant.name, variant.keep, case.id, "x", 49, 49.0, right, right, 0.1)

    return work


@pytest.mark.parametrize(
    ("rates", "code"),
    [({"random": 0.6, "maxsum": 0.3}, 4), ({"random": 0.6, "maxsum": 0.6}, 0), ({"random": 0.6, "resize": 0.3}, 0)],
    ids=["below", "control: as good", "explained"],
)
def test_the_run_fails_with_the_name_of_the_recipe(tmp_path, monkeypatch, rates, code):
    monkeypatch.setattr("vtc.bench.quality.work", answers(rates))
    options = ("--recipes", ",".join(rates), "--keep", ".25", "--n", "200", "--no-curve", "--out", str(tmp_path))
    result = CliRunner().invoke(app, ["bench", "quality", *options], env={"COLUMNS": "300"})
    assert result.exit_code == code, result.stderr
    assert ("tiny-llava: maxsum at keep 0.25" in " ".join(result.stderr.split())) is (code == 4)
    text = (tmp_path / "quality.md").read_text(encoding="utf-8")
    assert ("**not explained**" in text) is (code == 4)
    assert ("Below `random` by interval:" in text) is (code == 4 or "resize" in rates)


def test_on_a_model_or_questions_of_the_users_own_it_is_noted_and_no_failure():
    below = [{"recipe": "maxsum", "keep": 0.1, "high": -0.1, "why": None}]
    names = ("mine", *embedded.VIEW_OF)
    models = [{"name": name, "failed": None, "below_random": below} for name in names]
    assert unexplained({"own_questions": False, "models": models}) == [
        f"{name}: maxsum at keep 0.1" for name in embedded.VIEW_OF
    ]
    assert unexplained({"own_questions": True, "models": models}) == []


def test_every_reason_is_in_the_docs():
    rows = [re.split(r"\s*\|\s*", line.strip("| \n")) for line in DOCS.read_text(encoding="utf-8").splitlines()]
    told = {Explained(row[0].strip("`"), row[1].strip("`"), row[-1]) for row in rows if len(row) > 2}
    assert set(EXPLAINED) <= told
    assert {one.recipe for one in EXPLAINED} <= set(RECIPES)
    assert len({(one.recipe, one.model) for one in EXPLAINED}) == len(EXPLAINED)
