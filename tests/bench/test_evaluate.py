"""Answers and distances by every arm, against slower ways to the same numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.families import FAMILIES, Family
from vtc import reduce_tokens, restore
from vtc.bench.cases import Case
from vtc.bench.decode import (
    decode,
    divergence,
    logits_along,
    visual_tokens,
)
from vtc.bench.evaluate import Evaluator
from vtc.bench.synthetic import synthetic_cases
from vtc.bench.variants import ALL_TOKENS, TEXT_ALONE, variants
from vtc.inference.loading import load
from vtc.inference.prompting import inputs
from vtc.media.images import load_image
from vtc.recipes.named import recipe

NAMES = ("llava", "qwen2.5-vl", "internvl")


@pytest.fixture(scope="module")
def loaded():
    return load("tiny-llava", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def cases():
    return synthetic_cases("tiny-llava", 12)


def by_arm(rows):
    found: dict[str, list] = {}
    for row in rows:
        found.setdefault(row.variant, []).append(row)
    return found


@pytest.fixture(scope="module")
def scored(loaded, cases):
    recipes = [recipe("kcenter"), recipe("random"), recipe("resize")]
    return by_arm(Evaluator("m", *loaded, variants(recipes, [1.0, 0.05, 14]), 8).rows(cases))


def test_all_tokens_are_the_full_model_exactly(scored):
    for key in ("full@1.0", "kcenter@1.0", "random@1.0", "resize@1.0"):
        assert [row.kl for row in scored[key]] == [0.0] * 12
        assert all(row.agree and row.tokens == scored["full@1.0"][0].tokens for row in scored[key])
        assert [row.given for row in scored[key]] == [row.given for row in scored["full@1.0"]]


def test_fewer_tokens_are_another_distribution(scored):
    full = scored["full@1.0"][0].tokens
    assert {row.tokens for row in scored["kcenter@14"]} == {14}
    assert {row.tokens for row in scored["kcenter@0.05"]} == {int(full * 0.05 + 0.5)}
    assert all(0 < row.tokens <= full * 0.05 + 1 for row in scored["resize@0.05"])
    assert {row.tokens for row in scored["none@0.0"]} == {0}
    for key in ("kcenter@14", "resize@0.05", "none@0.0"):
        assert all(row.kl > 0 for row in scored[key])
    assert any(not row.agree for row in scored["none@0.0"])


def test_rows_judge_what_was_said(scored, cases):
    for rows in scored.values():
        for row, case, full in zip(rows, cases, scored["full@1.0"], strict=True):
            assert row.id == case.id
            assert row.exact == (row.given.lower() == case.answer)
            assert row.agree == (row.given == full.given)


def test_a_row_equals_one_question_asked_alone(loaded, cases, scored):
    scorer = Evaluator("m", *loaded, variants([recipe("kcenter")], [14]), 8)
    for i in (0, 5):
        for row in scorer.rows([cases[i]]):
            other = scored[row.variant][i]
            assert (row.given, row.tokens) == (other.given, other.tokens)
            assert row.kl == pytest.approx(other.kl, abs=1e-5)


def test_kl_equals_one_long_forward_along_the_full_answer(loaded, cases, scored):
    """The slow way: prompt and answer in one forward, whose logits have the caller's length."""
    model, processor = loaded
    for case, row in zip(cases, scored["random@0.05"], strict=True):
        given = inputs(model, processor, [case.question], [case.image()])
        full = decode(model, processor, given, 8)
        said = full.tokens[:, : full.lengths[0]]
        long = {
            **given,
            "input_ids": torch.cat([given["input_ids"], said], dim=1),
            "attention_mask": torch.cat([given["attention_mask"], torch.ones_like(said)], dim=1),
        }
        with torch.no_grad():
            stock = model(**long).logits[0, -said.shape[1] - 1 : -1]
            reduce_tokens(model, "random", keep=0.05)
            short = model(**long).logits[0, -said.shape[1] - 1 : -1]
            restore(model)
        assert row.kl == pytest.approx(divergence(stock, short), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.name in NAMES], ids=lambda f: f.name)
def test_a_given_answer_is_followed_on_every_family(family: Family):
    model = family.build()
    given = family.inputs([[5, (1,), 4], [3, (2,), 7]])
    tokens = torch.randint(3, 89, (2, 5), generator=torch.Generator().manual_seed(0))
    reduce_tokens(model, "kcenter", keep=0.5)
    found = logits_along(model, given, tokens)
    long = {**given, "input_ids": torch.cat([given["input_ids"], tokens], dim=1)}
    long["attention_mask"] = torch.cat([given["attention_mask"], torch.ones_like(tokens)], dim=1)
    if "mm_token_type_ids" in given:
        long["mm_token_type_ids"] = torch.cat([given["mm_token_type_ids"], torch.zeros_like(tokens)], dim=1)
    with torch.no_grad():
        assert torch.allclose(found, model(**long).logits[:, -6:-1], atol=1e-4)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.name in NAMES], ids=lambda f: f.name)
def test_the_full_models_tokens_are_those_that_reports_tell_of(family: Family):
    model = family.build()
    given = family.inputs([[5, (1,), 4], [3, (2,), 7]])
    found = visual_tokens(model, given["input_ids"])
    reduce_tokens(model, "stride", keep=0.5)
    model.generate(**given, max_new_tokens=1)
    assert found == [item.before + item.structural for item in model.vtc.report.items]


def test_a_model_refuses_what_it_cannot_run():
    model = next(f for f in FAMILIES if f.name == "internvl").build()
    scorer = Evaluator("m", model, None, variants([recipe("resize"), recipe("globalcom2")], [0.5, 0.1]), 4)
    assert [row.variant for row in scorer.refused] == ["resize@0.5", "resize@0.1"]
    assert all("cannot change the size" in row.refused for row in scorer.refused)


def test_divergence():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    p, q = logits.double().softmax(-1)
    assert divergence(*logits) == pytest.approx(float((p * (p / q).log()).sum(-1).mean()))
    assert divergence(logits[0], logits[0]) == 0.0
    banned = logits[0].clone()
    banned[:, 2] = float("-inf")
    assert divergence(banned, banned) == 0.0
    with pytest.raises(ValueError, match="not finite"):
        divergence(logits[0] * float("nan"), logits[1])


def test_rows_that_are_done_are_not_given_again(loaded, cases):
    scorer = Evaluator("m", *loaded, variants([recipe("stride")], [0.1]), 8)
    rows = list(scorer.rows(cases[:4]))
    keys = {row.key for row in rows}
    assert len(keys) == 12
    assert list(scorer.rows(cases[:4], keys)) == []
    torn = {row.key for row in rows[:9]}
    assert list(scorer.rows(cases[:4], torn)) == rows[9:]


def test_a_case_that_breaks_costs_the_others_nothing(loaded, cases, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    unread = Case("unread", "s", "what?", None, None, partial(load_image, tmp_path / "broken.png"))
    # A placeholder without an image breaks its batch in the processor.
    misfit = replace(cases[1], id="misfit", question="what is <image> ?")
    found = by_arm(
        Evaluator("m", *loaded, variants([recipe("stride")], [0.1]), 8).rows([cases[0], unread, misfit, cases[2]])
    )
    assert set(found) == {ALL_TOKENS.key, TEXT_ALONE.key, "stride@0.1"}
    for rows in found.values():
        errors = {row.id: row.error for row in rows}
        assert errors[cases[0].id] is errors[cases[2].id] is None
        assert "broken.png" in errors["unread"]
        assert errors["misfit"]
