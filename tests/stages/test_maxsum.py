"""Greedy max-sum dispersion against a slow oracle, by matrix and by products, and its pivots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vtc.stages.select.maxsum as module
from tests.stages.images import Tiling
from tests.stages.test_maxmin import draw, unit
from tests.stages.test_stages import item
from vtc import Recipe, VisualTokens
from vtc.stages import Joint, MaxSum
from vtc.stages.ops import unit_rows

KINDS = ("white", "clustered", "duplicated", "constant", "zero rows", "nan rows", "lattice", "one-hot", "off-centre")
problems = st.tuples(st.sampled_from(KINDS), st.integers(1, 50), st.integers(1, 20), st.integers(0, 999))


def lowest(score: np.ndarray, slack: float) -> int:
    """The first of those that are as good as the lowest."""
    return int(np.flatnonzero(score <= score.min() + slack)[0])


def oracle(x: torch.Tensor, k: int, first: int | None = None) -> list[int]:
    """The rule as it is written: sums taken again for each pick, in fp64."""
    rows = unit(x)
    if first is None:
        first = lowest(rows @ rows.sum(axis=0), module.TIE * len(rows))
    picks = [first]
    while len(picks) < k:
        score = np.array([np.inf if i in picks else sum(row @ rows[p] for p in picks) for i, row in enumerate(rows)])
        picks.append(lowest(score, module.TIE * len(picks)))
    return sorted(picks)


def select(x: torch.Tensor, k: int, stage: MaxSum | None = None) -> list[int]:
    """The choice of `stage` among all rows."""
    return (stage or MaxSum()).select(item(x), torch.arange(len(x)), k, seed=0).tolist()


@pytest.fixture(params=["matrix", "products", "together"])
def way(request, monkeypatch):
    """The ways to come by the cosines; many pools together is that of a GPU."""
    if request.param == "together":
        monkeypatch.setattr(module, "_in_turn", module._together)
    monkeypatch.setattr(module, "GRAM", 10**6 if request.param == "matrix" else 0)
    monkeypatch.setattr(module, "DEAR", 10**6)
    return request.param


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "width", "k"), [(1, 3, 1), (2, 1, 2), (30, 8, 9), (50, 16, 49), (50, 4, 50)])
def test_picks_are_those_of_the_rule(way, kind, count, width, k):
    x = draw(kind, count, width, seed=count + k)
    assert select(x, k) == oracle(x, k)


@given(problem=problems, data=st.data())
def test_both_ways_follow_the_rule(problem, data):
    x = draw(*problem)
    k = data.draw(st.integers(1, len(x)))
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DEAR", 10**6)
        for most in (10**6, 0):
            patch.setattr(module, "GRAM", most)
            found.append(select(x, k))
    assert found[0] == found[1] == oracle(x, k)


@pytest.mark.parametrize("count", [511, 512, 513, 1100])
def test_the_matrix_is_whole(count):
    rows = unit_rows(draw("white", count, 12, seed=1))
    torch.testing.assert_close(module._gram(rows), rows @ rows.T)


def test_both_ways_agree_on_many_tokens(monkeypatch):
    x = draw("off-centre", 1200, 32, seed=4)
    first = select(x, 300)
    monkeypatch.setattr(module, "GRAM", 0)
    assert select(x, 300) == first


def test_equal_rows_tie_to_the_lower_index(way):
    assert select(torch.ones(40, 7), 6) == [0, 1, 2, 3, 4, 5]
    assert select(torch.zeros(40, 7), 6) == [0, 1, 2, 3, 4, 5]
    x = draw("white", 5, 7, seed=2).repeat(9, 1)
    for k in range(1, 46):
        chosen = select(x, k)
        assert all(place < 5 or place - 5 in chosen for place in chosen), "a copy before an earlier one"


def test_copies_tie_even_in_long_sums(way):
    """The sums pass 600, where fp32 steps by more than the cosines of copies differ: the slack grows with them."""
    chosen = select(draw("off-centre", 30, 24, seed=1).repeat(25, 1), 700)
    assert all(place < 30 or place - 30 in chosen for place in chosen)


@pytest.mark.parametrize("kind", ["white", "clustered", "off-centre"])
def test_long_sums_in_fp32_choose_as_fp64_does(way, kind):
    x, k = draw(kind, 1000, 16, seed=6), 450
    rows = unit(x)
    picks, sums = [lowest(rows @ rows.sum(axis=0), module.TIE * len(rows))], np.zeros(len(rows))
    while len(picks) < k:
        sums += rows @ rows[picks[-1]]
        sums[picks[-1]] = np.inf
        picks.append(lowest(sums, module.TIE * len(picks)))
    assert select(x, k) == sorted(picks)


def test_it_is_max_sum_and_not_max_min():
    """Of a pick's two opposites max-sum takes both, though they lie together; max-min takes the one between."""
    angles = torch.tensor([0.0, 178.0, 182.0, 90.0]).deg2rad()
    x = torch.stack([angles.cos(), angles.sin()], dim=1)
    attention = torch.tensor([1.0, 0.0, 0.0, 0.0])
    tokens = VisualTokens(x, item(x).layout, {"attention": attention})
    chosen = MaxSum(pivot="attention").select(tokens, torch.arange(4), 3, seed=0).tolist()
    assert chosen == oracle(x, 3, first=0)
    assert chosen == [0, 1, 2]


@pytest.mark.parametrize("first", [0, 7, 19])
def test_the_pivot_by_attention(way, first):
    x = draw("white", 20, 6, seed=3)
    attention = torch.rand(20) / 2
    attention[first] = 0.9
    tokens = VisualTokens(x, item(x).layout, {"attention": attention})
    stage = MaxSum(pivot="attention")
    assert stage.select(tokens, torch.arange(20), 1, seed=0).tolist() == [first]
    assert stage.select(tokens, torch.arange(20), 8, seed=0).tolist() == oracle(x, 8, first)


@pytest.mark.parametrize(
    ("attention", "first"),
    [
        ([0.1, 0.5, 0.5], 1),
        ([torch.nan, 0.1, 0.2], 2),
        ([torch.nan] * 3, 0),
        ([torch.nan, 0.0, 0.0], 1),
        ([0.1, torch.inf, torch.inf], 1),
    ],
)
def test_rough_attention_still_gives_a_pivot(attention, first):
    tokens = VisualTokens(torch.eye(3), item(torch.eye(3)).layout, {"attention": torch.tensor(attention)})
    assert MaxSum(pivot="attention").select(tokens, torch.arange(3), 1, seed=0).tolist() == [first]


@pytest.mark.parametrize("last", [False, True])
def test_with_tiles_the_thumbnail_gives_the_pivot(last):
    layout = Tiling(1, 2, tile=(2, 2), view=(2, 2)).layout
    if last:
        layout = type(layout)(
            layout.unit, layout.cell, layout.structural, layout.grids, layout.kinds[::-1], layout.boxes[::-1]
        )
    thumbnail = [8, 9, 10, 11] if last else [0, 1, 2, 3]
    attention = torch.full((12,), 0.9)
    attention[thumbnail] = torch.tensor([0.1, 0.2, 0.4, 0.3])
    tokens = VisualTokens(torch.eye(12), layout, {"attention": attention})
    recipe = Recipe((Joint(), MaxSum(pivot="attention")))
    assert recipe.reduce(tokens, 1).anchor.tolist() == [thumbnail[2]]
    spoilt = VisualTokens(
        torch.eye(12), layout, {"attention": attention.index_fill(0, torch.tensor(thumbnail), torch.nan)}
    )
    assert recipe.reduce(spoilt, 1).anchor.tolist() == [thumbnail[0]]


def test_cues_follow_the_pivot():
    assert MaxSum().cues == ()
    assert MaxSum(pivot="attention").cues == ("attention",)
    assert Recipe((MaxSum(pivot="attention"),)).cues == ("attention",)
    assert Recipe((MaxSum(),)).cues == ()


@pytest.mark.parametrize("pivot", ["cls", "", None, 1])
def test_an_unknown_pivot_is_refused(pivot):
    with pytest.raises(ValueError, match=f"pivot={pivot!r}; .*remote, attention"):
        MaxSum(pivot=pivot)
