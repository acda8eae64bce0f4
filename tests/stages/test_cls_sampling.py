"""Sampling by CLS attention: exact draws in proportion, and outliers by loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc import Layout, Recipe, VisualTokens
from vtc.stages import ClsSampling
from vtc.stages.select.cls_sampling import _outlying

VALUES = st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.1, 0.5]), min_size=1, max_size=20)


def with_attention(late, early) -> VisualTokens:
    """An item of which only the two attentions matter."""
    cues = {"attention": torch.as_tensor(late), "early_attention": torch.as_tensor(early)}
    return VisualTokens(torch.ones(len(late), 2), Layout.of_grid(1, len(late)), cues)


def draws(tokens: VisualTokens, k: int, times: int) -> Counter:
    """How often each set of `k` is drawn."""
    pool = torch.arange(len(tokens))
    return Counter(tuple(ClsSampling().select(tokens, pool, k, seed=s).tolist()) for s in range(times))


def test_one_draw_is_in_proportion_to_the_mean_of_both_layers():
    late, early = [8.0, 1.0, 1.0, 0.0], [0.0, 1.0, 2.0, 1.0]
    want = [(a / 10 + b / 4) / 2 for a, b in zip(late, early, strict=True)]
    found = draws(with_attention(late, early), 1, 4000)
    for place, part in enumerate(want):
        assert abs(found[(place,)] / 4000 - part) < 4 * (part * (1 - part) / 4000) ** 0.5


def test_further_draws_are_without_replacement():
    weight = [0.5, 0.3, 0.2]
    found = draws(with_attention(weight, weight), 2, 4000)
    for left in range(3):
        a, b = (i for i in range(3) if i != left)
        part = weight[a] * weight[b] * (1 / (1 - weight[a]) + 1 / (1 - weight[b]))
        assert abs(found[(a, b)] / 4000 - part) < 4 * (part * (1 - part) / 4000) ** 0.5


def test_tokens_of_no_attention_come_last():
    tokens = with_attention([0.0, 1.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0])
    assert set(draws(tokens, 2, 50)) == {(1, 3)}
    assert set(draws(tokens, 4, 50)) == {(0, 1, 2, 3)}


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf, -1.0])
def test_a_layer_without_attention_counts_as_even(value):
    nothing = [value] * 6
    found = draws(with_attention(nothing, nothing), 1, 600)
    assert min(found[(place,)] for place in range(6)) > 60
    shaped = draws(with_attention([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], nothing), 1, 600)
    assert shaped[(0,)] > 280
    assert min(shaped[(place,)] for place in range(1, 6)) > 20


def test_the_scale_of_a_layer_does_not_matter():
    late, early = torch.rand(30), torch.rand(30)
    for rule in ("sample", "outliers"):
        stage = ClsSampling(rule=rule)
        want = stage.select(with_attention(late, early), torch.arange(30), 9, seed=5).tolist()
        got = stage.select(with_attention(late * 1024, early / 64), torch.arange(30), 9, seed=5).tolist()
        assert got == want


def test_draws_follow_the_seed_and_the_recipe():
    tokens = with_attention(torch.rand(40), torch.rand(40))
    assert len(draws(tokens, 5, 40)) > 35
    drawn = Recipe((ClsSampling(),))
    assert drawn.seeded
    assert drawn.reduce(tokens, 9).anchor.tolist() == drawn.reduce(tokens, 9).anchor.tolist()
    assert drawn.cues == ("attention", "early_attention")
    assert not Recipe((ClsSampling(rule="outliers"),)).seeded


def outliers(late: list[float], early: list[float], k: int) -> list[int]:
    """The rule by loops."""
    best = [-np.inf] * len(late)
    for layer in (late, early):
        total = sum(np.float64(np.float32(v)) for v in layer)
        weight = [np.float32(v) / total if total else 1 / len(layer) for v in layer]
        low, middle, high = np.percentile(weight, [25, 50, 75])
        scale = high - low or sum(abs(w - middle) for w in weight) / len(weight) or 1
        best = [max(b, (w - middle) / scale) for b, w in zip(best, weight, strict=True)]
    return sorted(sorted(range(len(best)), key=lambda i: (-np.float32(best[i]), i))[:k])


@given(values=VALUES, data=st.data())
def test_outliers_follow_the_rule(values, data):
    early = data.draw(st.permutations(values))
    k = data.draw(st.integers(1, len(values)))
    got = ClsSampling(rule="outliers").select(with_attention(values, early), torch.arange(len(values)), k, seed=0)
    assert len(got) == k
    # Percentiles are made in another order here: tokens whose scores agree to rounding may swap, if they look alike.
    pairs = list(zip(values, early, strict=True))
    assert sorted(pairs[i] for i in got.tolist()) == sorted(pairs[i] for i in outliers(values, early, k))


@pytest.mark.parametrize("seed", range(5))
def test_distance_is_in_inter_quartile_ranges(seed):
    weight = torch.rand(23, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    low, middle, high = np.percentile(weight.numpy(), [25, 50, 75])
    torch.testing.assert_close(_outlying(weight), (weight - middle) / (high - low))
    weight = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 5], dtype=torch.float64)
    assert _outlying(weight).tolist() == [0.0] * 7 + [8.0]
    assert _outlying(torch.ones(5, dtype=torch.float64)).tolist() == [0.0] * 5


def test_outliers_come_from_either_layer():
    late, early = torch.linspace(0.9, 1.1, 20), torch.linspace(0.9, 1.1, 20).flip(0)
    late[4], early[11] = 9.0, 5.0
    stage = ClsSampling(rule="outliers")
    assert stage.select(with_attention(late, early), torch.arange(20), 2, seed=0).tolist() == [4, 11]
    assert stage.select(with_attention(late, early), torch.arange(20), 1, seed=0).tolist() == [4]


def test_where_the_middle_half_is_equal_outliers_still_rank():
    late = [0.1] * 9 + [0.3, 0.2, 0.9]
    assert ClsSampling(rule="outliers").select(
        with_attention(late, [1.0] * 12), torch.arange(12), 2, seed=0
    ).tolist() == [9, 11]


@pytest.mark.parametrize("rule", ["gumbel", "", None])
def test_an_unknown_rule_is_refused(rule):
    with pytest.raises(ValueError, match=f"rule={rule!r}; .*sample, outliers"):
        ClsSampling(rule=rule)
