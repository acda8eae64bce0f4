"""The papers' rules where more than one thing happens: later cuts, selectors before, later turns, beams, answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests import oracle
from tests.families import (
    IMAGE,
    VIDEO,
    Family,
    placeholders,
    visual,
)
from tests.grid import generate, stock
from tests.names import CACHE
from tests.reduction.decoder.common import four, wrapped
from tests.reduction.decoder.slow import At, walk
from tests.reduction.test_turns import TYPES
from vtc import Layout, Recipe
from vtc.stages import FastV, Feather, KCenter, PyramidDrop, SparseVLM, ToDRE
from vtc.stages.decoder import Attention, Cut, DecoderStage, DecoderTokens

ROWS = [[3, (1, 12, 4), 4], [2, (3, 8, 6), 6, (4, 12, 4), 3], [4, (2, 4, 8), 2]]
SCHEDULE = ((1, 0.6), (2, 0.3))


def best(at: At, scores: Any) -> list[int]:
    """The tokens of highest score, by a sort of pairs."""
    count = max(1, int(SCHEDULE[at.cut][1] * len(at.every) + 0.5))
    order = sorted(range(len(at.columns)), key=lambda i: (-float(scores[i]), i))
    return [at.columns[i] for i in sorted(order[:count])]


def fastv(at: At) -> list[int]:
    return best(at, at.before[:, -1, at.columns].mean(0))


def pyramiddrop(at: At) -> list[int]:
    return best(at, at.own[:, -1, at.columns].mean(0))


def feather(at: At) -> list[int]:
    attention = at.attention
    query = attention.q_proj(at.normed[-1]).view(-1, attention.head_dim)
    key = attention.k_proj(at.normed[at.columns]).view(len(at.columns), -1, attention.head_dim)
    if hasattr(attention, "q_norm"):
        query, key = attention.q_norm(query), attention.k_norm(key)
    groups = len(query) // key.shape[1]
    heads = [(key[:, h // groups] @ query[h] * attention.scaling).softmax(0) for h in range(len(query))]
    stay = set(best(at, torch.stack(heads).mean(0)))
    if at.cut == 0:
        stay |= {c for c, (y, x) in zip(at.columns, at.cells, strict=True) if y % 3 == 0 and x % 3 == 0}
    return sorted(stay)


def sparsevlm(at: At) -> list[int]:
    """Raters are chosen once, from all tokens that entered the first layer."""
    embeds, words = at.row.embeds, at.behind
    relevance = (embeds[at.every] @ embeds[words].T).softmax(1).mean(0)
    rating = [word for word, value in zip(words, relevance, strict=True) if value >= relevance.mean()]
    return best(at, at.before[:, rating][:, :, at.columns].mean((0, 1)))


METHODS = {
    "fastv": (FastV(SCHEDULE), fastv),
    "pyramiddrop": (PyramidDrop(SCHEDULE), pyramiddrop),
    "feather": (Feather(SCHEDULE), feather),
    "sparsevlm": (SparseVLM(SCHEDULE, recycle=False), sparsevlm),
}
every_method = pytest.mark.parametrize("method", METHODS)


def by_rule(family: Family, recipe: Recipe, inputs: Any, rule: Any, known: Any = None) -> list[dict[int, list[int]]]:
    """What stays of each item, by layer, item after item."""
    before = replace(recipe, stages=tuple(s for s in recipe.stages if not isinstance(s, DecoderStage)) or (KCenter(),))
    plans = oracle.plans(stock(family, "eager"), family, inputs, before)
    return [
        one
        for planned_cuts in plans
        for one in walk(stock(family, "eager"), planned_cuts, (1, 2), rule, known).values()
    ]


def by_library(model: Any) -> list[dict[int, list[int]]]:
    kept = model.vtc.report.decoder.kept
    return [{layer: items[n].tolist() for layer, items in kept.items()} for n in range(len(kept[1]))]


def differ(rule: Any, at: At) -> list[int]:
    """A control: the rule, of the scores of another layer."""
    return rule(replace(at, before=at.own, own=at.before))


@pytest.mark.parametrize("before", [None, 0.6], ids=["alone", "after-kcenter"])
@pytest.mark.parametrize("side", ["left", "right"])
@every_method
@four
def test_two_cuts_of_uneven_rows(family, method, side, before):
    stage, rule = METHODS[method]
    recipe = Recipe((stage,)) if before is None else Recipe((KCenter(), stage), keep=before)
    inputs = family.inputs(ROWS, side)
    model = wrapped(family, recipe)
    with torch.no_grad():
        model(**inputs)
    assert by_library(model) == by_rule(family, recipe, inputs, rule)


@pytest.mark.parametrize("method", ["fastv", "pyramiddrop", "sparsevlm"])
@four
def test_another_layers_attention_is_another_choice(family, method):
    """A control."""
    stage, rule = METHODS[method]
    inputs = family.inputs(ROWS)
    found = [by_rule(family, Recipe((stage,)), inputs, r) for r in (rule, lambda at: differ(rule, at))]
    assert found[0] != found[1]


@every_method
@four
def test_beams_choose_what_one_row_chooses(family, method):
    stage, rule = METHODS[method]
    inputs = family.inputs(ROWS)
    model = wrapped(family, Recipe((stage,)), "eager")
    generate(model, inputs, tokens=3, num_beams=3)
    assert by_library(model) == by_rule(family, Recipe((stage,)), inputs, rule)


@every_method
@four
def test_a_later_turn_reads_the_keys_in_the_cache(family, method):
    """The attention of the second turn runs over the first turn's keys that are left, and over no others."""
    stage, rule = METHODS[method]
    recipe, inputs = Recipe((stage,)), family.inputs([[3, (1, 12, 4), 5]])
    model = wrapped(family, recipe)
    first = generate(model, inputs, tokens=3, suppress_tokens=placeholders(model))
    earlier = by_rule(family, recipe, inputs, rule)
    assert by_library(model) == earlier
    new = family.inputs([[2, (4, 8, 6), 3]])
    ids = torch.cat([first.sequences, new["input_ids"][:, 1:]], dim=1)
    media = {k: v for k, v in new.items() if k not in ("input_ids", "attention_mask", *TYPES)}
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name in set(TYPES) & set(inputs):
        given[name] = (ids == IMAGE).int() + 2 * (ids == VIDEO).int()
    generate(model, {**given, **media, CACHE: first[CACHE]}, tokens=1)
    both = {**given, **{k: torch.cat([inputs[k], v]) for k, v in media.items()}}
    assert by_library(model) == by_rule(family, recipe, both, rule, {0: earlier[0]})[1:]


@every_method
@four
def test_in_training_the_question_ends_where_the_answer_begins(family, method):
    """Labels tell the answer: what is kept is what the prompt without it keeps."""
    stage, _ = METHODS[method]
    inputs = family.inputs([[3, (1, 12, 4), 9]])
    model = wrapped(family, Recipe((stage,)))
    labels = inputs["input_ids"].clone()
    labels[:, :-4] = -100
    with torch.no_grad():
        model(**inputs, labels=labels)
        found = by_library(model)
        model(**inputs)
        whole = by_library(model)
        types = {name: inputs[name][:, :-4] for name in (*TYPES, "input_ids", "attention_mask") if name in inputs}
        model(**{**inputs, **types})
    assert found == by_library(model)
    assert found != whole
    with torch.no_grad():
        model(**inputs, labels=inputs["input_ids"].masked_fill(visual(inputs["input_ids"], model), -100))
    assert by_library(model) == whole  # all is to be learnt: there is no question apart


@four
def test_todre_leaves_the_system_prompt_out(family):
    """Text in front of the first image is nobody's question: attention to it holds no image back."""
    shares: list[float] = []
    inputs = family.inputs(ROWS)

    def both_ways(at: At) -> list[int]:
        first = min(place for places in at.row.places for place in places)
        text = [i for i in at.text if i > first]
        toward = at.before[:, at.behind][:, :, at.columns].sum(-1).mean()
        back = at.before[:, at.columns][:, :, text].sum(-1).mean()
        assert float(back) == 0 or at.item > 0  # a first image sees only text before it
        shares.append(max(float(toward), float(back)))
        return at.columns

    for planned_cuts in oracle.plans(stock(family, "eager"), family, inputs, Recipe((KCenter(),), keep=1.0)):
        walk(stock(family, "eager"), planned_cuts, (2,), both_ways)
    threshold = sum(sorted(shares)[1:3]) / 2
    model = wrapped(family, Recipe((ToDRE(((2, 0),), threshold=threshold),)))
    with torch.no_grad():
        model(**inputs)
    left = [bool(len(one)) for one in model.vtc.report.decoder.kept[2]]
    assert left == [value >= threshold for value in shares]
    assert {True, False} == set(left)


def shown(query: torch.Tensor, key: torch.Tensor) -> Attention:
    """One query, the text's last token, over keys that are all of one image but the last."""
    size, own = key.shape[1], torch.arange(key.shape[1] - 1)
    still = torch.ones(1, 4), torch.zeros(1, 4)
    angles = torch.ones(size - 1, 4), torch.zeros(size - 1, 4)
    return Attention(
        query, key, torch.ones(1, size).bool(), 1, own, torch.tensor([size - 1]), still, angles, scaling=0.5
    )


@pytest.mark.parametrize("stage", [FastV(), PyramidDrop(), Feather(stride=0), SparseVLM(recycle=False)])
def test_of_equal_scores_the_lower_place_stays(stage):
    layout = Layout.of_grid(3, 4)
    states, key = torch.ones(12, 8), torch.ones(2, 13, 4)
    tokens = DecoderTokens(states, layout, torch.arange(12), 12, states, torch.ones(1, 8), shown(key[:, :1], key))
    assert stage.keep(tokens, 5, Cut(1, 0.4, 1)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stage", [FastV(), Feather(stride=0)])
def test_scores_are_taken_in_fp32(stage, dtype):
    """The same numbers, given as a narrower type, are chosen alike."""
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(4, n, 4, generator=generator).to(dtype) for n in (1, 201))
    chosen = []
    for kind in (dtype, torch.float32):
        tokens = DecoderTokens(
            torch.zeros(200, 8), Layout.of_grid(10, 20), torch.arange(200), 200, None, None,
            shown(query.to(kind), key.to(kind)),
        )  # fmt: skip
        chosen.append(stage.keep(tokens, 100, Cut(1, 0.5, 1)).tolist())
    assert chosen[0] == chosen[1]
