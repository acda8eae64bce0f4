"""The density allocator: its rule by loops, and what it makes of blank and busy units."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vtc.stages.allocate.density as module
from tests.stages.test_stages import exact_rows, layouts
from vtc import Layout, VisualTokens
from vtc.core.budget import share
from vtc.stages import Density, Even


def densities(tokens: VisualTokens, similarity: float, peers: float) -> list[int]:
    """Tokens that are not redundant in each unit, by loops."""
    layout, found = tokens.layout, []
    for unit in range(len(layout.grids)):
        own = [i for i in range(len(layout)) if layout.unit[i] == unit and not layout.structural[i]]
        rows = torch.nn.functional.normalize(tokens.cues["keys"][own].double(), dim=1).nan_to_num()
        near = [sum(float(a @ b) > similarity for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows)]
        found.append(sum(count <= peers * (len(own) - 1) for count in near))
    return found


def with_keys(keys: torch.Tensor, layout: Layout) -> VisualTokens:
    """An item of which only the keys matter."""
    return VisualTokens(torch.ones(len(keys), 2), layout, {"keys": keys})


BOUNDS = st.sampled_from([(0.8, 0.1), (0.3, 0.3), (0.05, 0.0), (-0.5, 0.5)])


@given(
    layout=layouts(), seed=st.integers(0, 99), width=st.integers(2, 5), bounds=BOUNDS, block=st.sampled_from([2, 99])
)
def test_density_follows_the_rule(layout, seed, width, bounds, block):
    tokens = with_keys(exact_rows(len(layout), width, seed), layout)
    total = sum(layout.candidates) // 2
    want = densities(tokens, *bounds)
    weights = want if any(want) else layout.candidates
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        assert list(Density(*bounds).allocate(tokens, total)) == share(total, weights, caps=layout.candidates)


@given(
    count=st.integers(1, 12),
    seed=st.integers(0, 99),
    similarity=st.sampled_from([-0.5, 0.05, 0.3, 0.8]),
    peers=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75]),
    block=st.sampled_from([1, 2, 5, 99]),
)
def test_distinct_tokens_are_counted_to_the_last(count, seed, similarity, peers, block):
    keys = exact_rows(count, 3, seed)
    tokens = with_keys(keys, Layout.of_grid(1, count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        found = Density(similarity, peers)._distinct(keys)
    assert [int(found)] == densities(tokens, similarity, peers)


def test_a_share_of_peers_counts_as_on_paper():
    """30 tokens alike beside 71 others: each has 29 peers of 100, which is not more than a share of .29."""
    keys = torch.cat([torch.eye(72)[:1].expand(30, -1), torch.eye(72)[1:]])
    assert 0.29 * 100 < 29
    assert int(Density(peers=0.29)._distinct(keys)) == 101
    assert int(Density(peers=0.28)._distinct(keys)) == 71


def test_busy_units_come_before_blank_ones():
    blank, busy = torch.ones(9, 9), torch.eye(9)
    layout = Layout.join([Layout.of_grid(3, 3, kind="tile")] * 3)
    tokens = with_keys(torch.cat([blank, busy, torch.cat([blank[:6], busy[:3]])]), layout)
    assert densities(tokens, 0.8, 0.1) == [0, 9, 3]
    assert list(Density().allocate(tokens, 8)) == [0, 6, 2]
    assert list(Density(floor=1).allocate(tokens, 8)) == [1, 5, 2]
    assert list(Density().allocate(tokens, 20)) == [2, 9, 9]
    assert list(Even().allocate(tokens, 8)) == [3, 3, 2]


def test_few_peers_are_no_redundancy():
    """Two of eleven tokens are alike: each has a tenth of the others for peers, which is not more than a tenth."""
    keys = torch.eye(11)[[0, 0, *range(2, 11)]]
    layout = Layout.join([Layout.of_grid(1, 11, kind="tile"), Layout.of_grid(1, 11, kind="tile")])
    tokens = with_keys(torch.cat([keys, torch.eye(11)]), layout)
    assert densities(tokens, 0.8, 0.1) == [11, 11]
    assert list(Density().allocate(tokens, 10)) == [5, 5]
    assert densities(tokens, 0.8, 0.05) == [9, 11]
    assert list(Density(peers=0.05).allocate(tokens, 10)) == [5, 5]
    assert list(Density(peers=0.05).allocate(tokens, 20)) == [9, 11]


@pytest.mark.parametrize("value", [0.0, 1.0, torch.nan, torch.inf])
def test_units_all_alike_are_shared_evenly(value):
    layout = Layout.join([Layout.of_grid(2, 6, kind="tile"), Layout.of_grid(2, 3, kind="tile")])
    tokens = with_keys(torch.full((18, 4), value), layout)
    assert list(Density().allocate(tokens, 6)) == list(Even().allocate(tokens, 6)) == [4, 2]


def test_the_same_keys_count_alike_in_every_dtype():
    layout = Layout.join([Layout.of_grid(6, 6, kind="tile"), Layout.of_grid(5, 5, kind="tile")])
    keys = exact_rows(61, 2, 3)
    found = [Density().allocate(with_keys(keys.to(d), layout), 20) for d in (torch.float32, torch.bfloat16, torch.half)]
    assert list(found[0]) == list(found[1]) == list(found[2])
