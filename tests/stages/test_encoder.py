"""Encoder stages as pure tensor code: schedules, matching, folding, against loops and the paper's rules."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from vtc import Layout, Recipe, Reduction
from vtc.encoder.merge_steps import LayerView, MergeHistory, MergeStep
from vtc.stages import (
    DiffRate,
    KCenter,
    Mean,
    Resize,
    ToMe,
)
from vtc.stages.encoder.schedule import SHAPES, schedule
from vtc.stages.encoder.tome import match

REFERENCE = np.load(Path(__file__).parents[1] / "data" / "reference_tome.npz")
DIFFRATE = np.load(Path(__file__).parents[1] / "data" / "reference_diffrate.npz")
SETS = ("s1_n144", "s2_n144")


# Schedules.


@given(st.integers(1, 900), st.integers(1, 900), st.integers(0, 40), st.sampled_from(SHAPES))
@example(576, 64, 23, "constant")
@example(576, 1, 23, "decreasing")
@example(3, 1, 2, "constant")
def test_a_schedule_ends_on_the_count_or_names_the_least(candidates, target, layers, shape):
    target = min(candidates, target)
    reach = candidates
    for _ in range(layers):
        reach = -(-reach // 2)
    if target < reach:
        with pytest.raises(ValueError, match=f"keep .*no fewer than {reach};"):
            schedule(candidates, target, layers, shape)
        return
    found = schedule(candidates, target, layers, shape)
    steps = (candidates, *found)
    assert len(found) == layers
    assert steps[-1] == target
    for before, after in zip(steps, found, strict=False):
        assert 0 <= before - after <= before // 2


def test_a_schedule_is_the_papers_where_nothing_is_in_its_way():
    """As many in each layer; or falling evenly from twice that down to none."""
    assert np.diff((576, *schedule(576, 576 - 23 * 8, 23, "constant"))).tolist() == [-8] * 23
    falling = -np.diff((600, *schedule(600, 600 - 21 * 10, 21, "decreasing")))
    assert falling.tolist() == list(range(20, -1, -1))
    assert [schedule(10, 8, 2, shape) for shape in SHAPES] == [(9, 8), (8, 8)]
    assert -np.diff((576, *schedule(576, 576 - 25, 10, "constant"))).sum() == 25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((36, 5, 2, "constant"), "keep leaves 5 of 36 patches, and 2 layers .* no fewer than 9; keep at least 0.25"),
        ((36, 0, 2, "constant"), "target=0 of 36 candidates"),
        ((36, 37, 2, "constant"), "target=37 of 36 candidates"),
        ((36, 18, 2, "rising"), "schedule='rising'; expected one of constant, decreasing"),
    ],
)
def test_impossible_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedule(*arguments)


# Matching.


def by_loops(keys: Tensor, prefix: int, merges: int) -> list[int]:
    """ToMe, section 3, for one image `[heads, N, dim]`: which token each is folded into."""
    rows = keys.double().mean(dim=0)
    unit = [row / row.norm() if float(row.norm()) else row for row in rows]
    edges = []
    for a in range(prefix, len(unit)):
        best, place = -2.0, -1
        for b in range(prefix, len(unit)):
            if a % 2 == 0 and b % 2 == 1 and float(unit[a] @ unit[b]) > best:
                best, place = float(unit[a] @ unit[b]), b
        if place >= 0:
            edges.append((best, a, place))
    target = list(range(len(unit)))
    for _, a, b in sorted(edges, key=lambda edge: (-edge[0], edge[1]))[:merges]:
        target[a] = b
    return target


@given(st.integers(2, 40), st.integers(0, 3), st.integers(0, 20), st.integers(0, 10**6))
def test_matching_is_that_of_loops(tokens, prefix, merges, seed):
    merges = min(merges, tokens // 2)
    keys = torch.randn(2, 3, prefix + tokens, 8, generator=torch.Generator().manual_seed(seed))
    found = match(keys, prefix, merges)
    assert found.tolist() == [by_loops(rows, prefix, merges) for rows in keys]
    places = torch.arange(prefix + tokens)
    assert ((found != places).sum(dim=1) == merges).all()
    assert found[:, :prefix].tolist() == [list(range(prefix))] * 2


def test_equals_go_to_the_lower_place():
    keys = torch.ones(1, 2, 8, 4)
    assert match(keys, 0, 3).tolist() == [[1, 1, 1, 3, 1, 5, 6, 7]]
    assert match(keys, 1, 3).tolist() == [[0, 1, 1, 3, 1, 5, 1, 7]]


@pytest.mark.parametrize("odd", [0.0, float("nan"), float("inf")])
def test_keys_without_direction_keep_the_count(odd):
    keys = torch.randn(1, 2, 12, 4)
    keys[0, :, 3:6] = odd
    found = match(keys, 1, 5)
    assert int((found != torch.arange(12)).sum()) == 5


@pytest.mark.parametrize("name", SETS)
def test_a_step_is_that_of_the_papers_own_code(name):
    """Its outputs on these inputs, with r a quarter of the tokens. It leaves outputs in another order."""
    parts = ("tome_keys", "x", "tome_out", "tome_into")
    keys, x, want, into = (torch.from_numpy(REFERENCE[f"{name}/{part}"]) for part in parts)
    tokens = len(x)
    assert groups(match(keys[None, None], 0, tokens // 4)[0]) == groups(into)
    assert groups(match(keys[None, None, :, :16], 0, tokens // 4)[0]) != groups(into)
    fold = MergeStep.of(match(keys[None, None], 0, tokens // 4), torch.ones(1, tokens), tokens - tokens // 4)
    torch.testing.assert_close(fold.merged(x[None])[0], want[into[fold.anchor[0]].long()], rtol=1e-5, atol=1e-6)


def groups(into: Tensor) -> set[frozenset[int]]:
    """The tokens that go to one output, for each."""
    return {frozenset((into == output).nonzero().flatten().tolist()) for output in into.unique()}


# Folding.


@given(st.integers(4, 30), st.integers(1, 4), st.integers(0, 10**6))
def test_steps_in_sum_partition_the_tokens(tokens, layers, seed):
    generator = torch.Generator().manual_seed(seed)
    state, x = MergeHistory.start(2, tokens, torch.device("cpu")), torch.randn(2, tokens, 5, generator=generator)
    rows = x
    for _ in range(layers):
        left = rows.shape[1]
        merges = int(torch.randint(0, left // 2 + 1, (), generator=generator))
        fold = MergeStep.of(
            match(torch.randn(2, 1, left, 4, generator=generator), 0, merges), state.size, left - merges
        )
        torch.testing.assert_close(fold.merged(fold.spread(fold.merged(rows))), fold.merged(rows))
        rows, state = fold.merged(rows), state.then(fold)
    assert state.size.sum(dim=1).tolist() == [tokens] * 2
    for image, reduction in enumerate(state.reductions()):
        assert torch.equal(torch.bincount(reduction.assign), state.size[image].long())
        assert reduction.assign[reduction.anchor].tolist() == list(range(len(reduction)))
        assert bool((reduction.anchor.diff() > 0).all())
        torch.testing.assert_close(reduction.apply(x[image]), rows[image], rtol=1e-4, atol=1e-5)


def test_a_token_on_its_own_stays_bit_for_bit():
    rows = torch.randn(1, 6, 4)
    fold = MergeStep.of(torch.tensor([[0, 1, 1, 3, 4, -1]]), torch.tensor([[3.0, 1, 2, 7, 5, 1]]), 4)
    out = fold.merged(rows)
    assert torch.equal(out[0, [0, 2, 3]], rows[0, [0, 3, 4]])
    torch.testing.assert_close(out[0, 1], (rows[0, 1] + 2 * rows[0, 2]) / 3)
    assert fold.summed(torch.ones(1, 6)).tolist() == [[1, 2, 1, 1]]


@given(st.integers(0, 10**6))
def test_one_reduction_after_another_is_one(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(12, 3, generator=generator)
    assign = torch.randint(-1, 5, (12,), generator=generator)
    anchor = torch.randperm(12, generator=generator)[:5].sort().values
    assign[anchor] = torch.arange(5)
    first = Reduction(anchor, assign, torch.rand(12, generator=generator) + 0.1)
    second = Reduction(torch.tensor([1, 4]), torch.tensor([0, 0, -1, 1, 1]), torch.rand(5, generator=generator) + 0.1)
    both = second.after(first)
    torch.testing.assert_close(both.apply(x), second.apply(first.apply(x)))
    assert both.anchor.tolist() == anchor[[1, 4]].tolist()
    assert torch.equal(both.assign >= 0, (assign >= 0) & (second.assign[assign.clamp_min(0)] >= 0))
    kept = Reduction.identity(5).after(first)
    assert torch.equal(kept.assign, first.assign)
    torch.testing.assert_close(kept.apply(x), first.apply(x))


def test_a_layout_of_survivors_keeps_its_grid():
    taken = Layout.of_grid(3, 4).take(torch.tensor([0, 5, 11]))
    assert taken.cell.tolist() == [[0, 0, 0], [0, 1, 1], [0, 2, 3]]
    assert taken.grids == ((1, 3, 4),)
    assert taken.candidates == (3,)


# DiffRate.


def rates(**changes) -> DiffRate:
    return DiffRate(**{"tokens": 12, "pruned": (11, 8), "merged": (9, 5), **changes})


def view(stage: DiffRate, tokens: int, patches: int, layer: int, seed: int = 0) -> LayerView:
    generator = torch.Generator().manual_seed(seed)
    keys, queries = (torch.randn(2, 3, tokens + 1, 4, generator=generator) for _ in range(2))
    hidden = torch.randn(2, tokens + 1, 6, generator=generator)
    size = torch.randint(1, 4, (2, tokens + 1), generator=generator).float()
    return LayerView(hidden, keys, queries, size, 0.5, 1, True, layer, patches)


@pytest.mark.parametrize(("layer", "tokens", "left"), [(0, 12, 9), (1, 9, 5)])
@pytest.mark.parametrize("proportional", [True, False])
def test_diffrate_drops_the_least_attended_and_folds_the_next(layer, tokens, left, proportional):
    """The paper's rule in loops: rank by class attention, drop the tail, fold the rest's tail by cosine, plain mean."""
    stage = rates(proportional=proportional)
    seen = view(stage, tokens, 12, layer)
    fold = stage.fold(seen, left)
    for image in range(2):
        logits = torch.einsum("hd,hnd->hn", seen.queries[image, :, 0], seen.keys[image]) * 0.5
        weights = logits.exp() * (seen.size[image] if proportional else 1)
        attention = (weights / weights.sum(dim=1, keepdim=True)).mean(dim=0)
        rank = sorted(range(1, tokens + 1), key=lambda i: (-float(attention[i]), i))
        stay, go, dropped = rank[:left], rank[left : stage.pruned[layer]], rank[stage.pruned[layer] :]
        assert fold.anchor[image].tolist() == [0, *sorted(stay)]
        hidden = seen.hidden[image]
        groups = {i: [i] for i in (0, *stay)}
        for i in go:
            groups[max(stay, key=lambda j: float(torch.cosine_similarity(hidden[i], hidden[j], dim=0)))].append(i)
        want = torch.stack([hidden[groups[i]].mean(dim=0) for i in sorted(groups)])
        torch.testing.assert_close(fold.merged(seen.hidden)[image], want)
        assert (fold.into[image] < 0).nonzero().flatten().tolist() == sorted(dropped)


def released(case: str) -> tuple[DiffRate, LayerView, dict[str, torch.Tensor]]:
    """The stage and what it is shown: one head feature whose product with the query is the log of the given row."""
    held = {name: torch.from_numpy(DIFFRATE[f"{case}/{name}"]) for name in ("x", "row", "kept", "into", "out")}
    pruned, merged = held["kept"].tolist()
    stage = DiffRate(len(held["x"]) - 1, (pruned,), (merged,), proportional=False)
    keys = held["row"].log()[None, ..., None]
    shown = LayerView(
        held["x"][None], keys, torch.ones_like(keys), torch.ones(1, len(held["x"])), 1.0, 1, True, 0, stage.tokens
    )
    return stage, shown, held


def partition(into: torch.Tensor) -> set[frozenset[int]]:
    """The tokens of each output."""
    return {frozenset((into == k).nonzero().flatten().tolist()) for k in into.unique().tolist() if k >= 0}


@pytest.mark.parametrize("case", ["s1_n96", "s2_n96", "s3_n64"])
def test_diffrate_beside_the_released_block(case):
    """A layer that drops and folds, one that only folds, one that only drops."""
    stage, shown, held = released(case)
    fold = stage.fold(shown, stage.merged[0])
    ours, theirs = fold.into[0], held["into"].long()
    assert partition(ours) == partition(theirs)
    assert torch.equal(ours < 0, theirs < 0)
    assert int((ours < 0).sum()) == stage.tokens - stage.pruned[0]
    order = theirs[fold.anchor[0]]  # theirs go by rank
    torch.testing.assert_close(fold.merged(shown.hidden)[0], held["out"][order], rtol=0, atol=1e-6)


def test_another_row_or_rule_is_not_the_released_one():
    stage, shown, held = released("s1_n96")
    keys = shown.keys.clone()
    keys[0, :, 1:] = keys[0, :, 1:].flip(1)
    for spoiled in (replace(shown, keys=keys), replace(shown, hidden=shown.hidden.cumsum(2))):
        assert partition(stage.fold(spoiled, stage.merged[0]).into[0]) != partition(held["into"].long())
    few = DiffRate(stage.tokens, (stage.pruned[0] - 1,), stage.merged, proportional=False)
    assert partition(few.fold(shown, stage.merged[0]).into[0]) != partition(held["into"].long())


def test_rates_are_shares_of_other_towers():
    stage = rates()
    assert stage.schedule(12, 5, 2) == (9, 5)
    assert stage.schedule(48, 20, 2) == (36, 20)
    assert stage.own_share == 5 / 12
    for candidates in range(1, 300):
        recipe = Recipe((stage,))
        assert stage.schedule(candidates, recipe.count(Layout.of_grid(1, candidates)), 2)[-1] >= 1


def test_rates_come_from_a_file_and_travel_in_recipes(tmp_path):
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"schema": 1, "tokens": 12, "pruned": [11, 8], "merged": [9, 5]}))
    assert DiffRate.load(path) == rates()
    Recipe((rates(),), name="mine").save(tmp_path / "mine.json")
    assert Recipe.load(tmp_path / "mine.json").encoder == rates()
    for wrong in ("[]", "{", '{"schema": 2}', '{"schema": 1, "tokens": 3, "pruned": [2]}'):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="is no schedule file"):
            DiffRate.load(path)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"pruned": (11,)}, ValueError, "pruned has 1 entries, merged 2"),
        ({"pruned": (), "merged": ()}, ValueError, "expected one of each for every layer"),
        ({"merged": (9, 0)}, ValueError, "must be at least 1 and never rise"),
        ({"pruned": (13, 8)}, ValueError, "never rise"),
        ({"pruned": (8, 8)}, ValueError, "never rise"),
        ({"tokens": 12.0}, TypeError, "expected an int"),
        ({"merged": (9, True)}, TypeError, "expected an int"),
        ({"merged": 9}, TypeError, "merged=9 is a int; expected a number for each layer"),
    ],
)
def test_wrong_rates_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        rates(**changes)


# Recipes.


@pytest.mark.parametrize(
    ("stages", "error", "message"),
    [
        ((ToMe(), KCenter()), ValueError, r"beside a selector needs its own share, e.g. ToMe\(share=0.5\)"),
        ((ToMe(spread=True),), ValueError, r"that spreads needs its own share, e.g. ToMe\(share=0.5, spread=True\)"),
        ((ToMe(), Mean()), ValueError, "merges or allocates without a selector"),
        ((ToMe(), rates()), ValueError, "more than one 'encoder' stage"),
        ((ToMe(share=0.5), Resize(share=0.5)), ValueError, "do not go together; use one"),
    ],
    ids=str,
)
def test_encoder_stages_that_do_not_go_together_are_refused(stages, error, message):
    with pytest.raises(error, match=message):
        Recipe(stages)


@pytest.mark.parametrize(("share", "error"), [(0, ValueError), (1.5, ValueError), (True, TypeError), ("a", TypeError)])
def test_a_share_out_of_range_is_refused(share, error):
    with pytest.raises(error, match=f"share={share!r} "):
        ToMe(share=share)
    with pytest.raises(ValueError, match=r"shape='rising'; .*constant, decreasing"):
        ToMe(shape="rising")


def test_counts_are_known_beforehand():
    layout = Layout.of_grid(24, 24)
    assert Recipe((ToMe(),), keep=64).count(layout) == 64
    assert Recipe((ToMe(),), keep=0.25).count(layout) == 144
    assert Recipe((ToMe(share=0.5), KCenter()), keep=0.25).count(layout) == 144
    assert Recipe((ToMe(share=0.5), KCenter()), keep=0.75).count(layout) == 288
    assert Recipe((ToMe(share=0.5, spread=True), KCenter()), keep=0.75).count(layout) == 432
    assert Recipe((ToMe(share=0.5, spread=True),)).count(layout) == 576
