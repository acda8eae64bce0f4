"""Schedules, even covers, clusters and rotations as plain functions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vtc import Layout
from vtc.stages import FastV, Layerwise, SparseVLM
from vtc.stages.decoder.attention import Attention, unrotated
from vtc.stages.decoder.base import check_schedule
from vtc.stages.decoder.sparsevlm import (
    _alone,
    _clusters,
    density_peaks,
    raters,
)
from vtc.stages.decoder.spread import _matched, evenly
from vtc.stages.grid_partition import unit_pieces


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        ([], TypeError, r"expected \[\(layer, keep\), ...\]"),
        ("0.5", TypeError, "expected"),
        ([0.5], TypeError, "a pair"),
        ([(1, True)], TypeError, "a pair"),
        ([(-1, 0.5)], ValueError, "an index from 0 on"),
        ([(1.0, 0.5)], ValueError, "below 1|in \\[0, 1\\)"),
        ([(1, 1.5)], ValueError, "keep=1.5 at layer 1"),
        ([(1, -3)], ValueError, "keep=-3"),
        ([(1, 0.2), (2, 0.5)], ValueError, "grows from 0.2 to 0.5 at layer 2"),
        ([(1, 0.5), (2, 8)], ValueError, "mixes shares and counts"),
    ],
    ids=str,
)
def test_bad_schedules_are_refused(schedule, error, message):
    with pytest.raises(error, match=message):
        Layerwise(schedule)


def test_layers_out_of_range_or_out_of_order_are_refused():
    with pytest.raises(ValueError, match=r"fastv: schedule names layer 6, .* 0 to 5"):
        FastV([(6, 0.5)]).cuts(6)
    with pytest.raises(ValueError, match=r"means layers \[3, 2\] of 6"):
        FastV([(3, 0.5), (0.25, 0.2)]).cuts(6)


def test_shares_of_the_depth_mean_the_nearest_layer():
    assert [cut.layer for cut in Layerwise([(0.25, 0.5), (0.5, 0.25)]).cuts(32)] == [8, 16]
    assert [cut.layer for cut in SparseVLM().cuts(32)] == [3, 7, 16]
    assert [(cut.layer, cut.count(576)) for cut in SparseVLM().cuts(32)] == [(3, 300), (7, 200), (16, 110)]
    assert [(cut.layer, cut.keep) for cut in SparseVLM().cuts(6)] == [(1, 0.3472), (3, 0.191)]
    assert [cut.layer for cut in FastV([(0.99, 0)]).cuts(4)] == [3]


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1)), min_size=1, max_size=5), st.integers(1, 48))
@settings(max_examples=80, deadline=None)
def test_cuts_are_the_schedule_or_an_error(pairs, depth):
    """Whatever is asked: ascending layers that exist with counts that never grow, or a ValueError that says why not."""
    falling = all(b[1] <= a[1] for a, b in pairwise(pairs))
    rising = all(b[0] > a[0] for a, b in pairwise(pairs))
    if not falling or not rising or pairs[-1][0] >= depth:
        with pytest.raises(ValueError, match=r"keep grows|each must come after|the decoder has layers 0 to"):
            Layerwise(pairs).cuts(depth)
        return
    cuts = Layerwise(pairs).cuts(depth)
    assert [(cut.layer, cut.keep) for cut in cuts] == pairs
    for total in (1, 7, 576):
        counts = [cut.count(total) for cut in cuts]
        assert counts == sorted(counts, reverse=True)
        want = [0 if keep == 0 else min(total, max(1, math.floor(keep * total + 0.5 + 1e-9))) for _, keep in pairs]
        assert counts == want


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5, unique=True), st.integers(1, 48))
@settings(max_examples=80, deadline=None)
def test_shares_of_the_depth_are_ascending_layers_that_exist(shares, depth):
    """Shares that meet in a shallow decoder become one cut, with the last keep of them."""
    pairs = [(share, 1 / (i + 1)) for i, share in enumerate(sorted(shares))]
    cuts = Layerwise(pairs).cuts(depth)
    layers = [cut.layer for cut in cuts]
    assert layers == sorted(set(layers))
    assert all(0 <= layer < depth for layer in layers)
    last = {min(depth - 1, math.floor(share * depth + 0.5 + 1e-9)): keep for share, keep in pairs}
    assert {cut.layer: cut.keep for cut in cuts} == last


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.data())
@settings(max_examples=60, deadline=None)
def test_even_covers_are_exact(height, width, frames, data):
    layout = Layout.of_grid(height, width, frames=frames)
    total = len(layout)
    here = sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1)))
    count = data.draw(st.integers(1, len(here)))
    found = evenly(layout, torch.tensor(here), count).tolist()
    assert len(found) == count
    assert found == sorted(set(found))
    assert all(0 <= place < len(here) for place in found)


@given(st.integers(2, 9), st.integers(2, 9), st.data())
@settings(max_examples=30, deadline=None)
def test_a_whole_grid_is_cut_into_rectangles(height, width, data):
    layout = Layout.of_grid(height, width)
    count = data.draw(st.integers(1, len(layout)))
    found = evenly(layout, torch.arange(len(layout)), count)
    assert found.tolist() == unit_pieces(layout, 0, count).anchor.sort().values.tolist()


@given(st.integers(4, 12), st.integers(4, 12), st.integers(0, 10**6), st.data())
@settings(max_examples=40, deadline=None)
def test_thinned_grids_are_covered_nearly_as_evenly_as_whole_ones(height, width, seed, data):
    """Each even point of the lattice is near a token that stays, if it was near one that was still here."""
    layout = Layout.of_grid(height, width)
    order = torch.randperm(len(layout), generator=torch.Generator().manual_seed(seed))
    here = order[: data.draw(st.integers(len(layout) // 2, len(layout) - 1))].sort().values
    count = data.draw(st.integers(1, len(here)))
    found = here[evenly(layout, here, count)]
    points = layout.cell[unit_pieces(layout, 0, count).anchor].double()
    to_here = torch.cdist(points, layout.cell[here].double()).amin(dim=1)
    to_found = torch.cdist(points, layout.cell[found].double()).amin(dim=1)
    assert bool((to_found >= to_here).all())
    best = torch.cdist(points, layout.cell[here].double())
    # The nearest pair of all is always taken; on average a point gets no worse than by lot.
    assert int((to_found == best.amin()).sum()) > 0
    lot = here[torch.randperm(len(here), generator=torch.Generator().manual_seed(seed))[:count]]
    by_lot = torch.cdist(points, layout.cell[lot].double()).amin(dim=1)
    assert float(to_found.mean()) <= float(by_lot.mean()) + 1e-9


def test_each_frame_keeps_its_share():
    layout = Layout.of_grid(4, 4, frames=3)
    found = evenly(layout, torch.arange(0, 48, 2), 6)
    assert torch.bincount(torch.arange(0, 48, 2)[found] // 16).tolist() == [2, 2, 2]


@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_points_take_their_nearest_free_token(rows, more, seed):
    """Beside a loop over all pairs, the nearest first."""
    generator = torch.Generator().manual_seed(seed)
    distance = torch.randint(0, 4, (rows, rows + more), generator=generator).double()
    pairs = sorted((float(distance[r, c]), r, c) for r in range(rows) for c in range(rows + more))
    free_rows, free_columns, taken = set(range(rows)), set(range(rows + more)), []
    for _, r, c in pairs:
        if r in free_rows and c in free_columns:
            free_rows.remove(r)
            free_columns.remove(c)
            taken.append(c)
    assert _matched(distance).tolist() == sorted(taken)


@given(st.integers(2, 400), st.data())
@settings(max_examples=60, deadline=None)
def test_clusters_are_part_of_the_count(total, data):
    count = data.draw(st.integers(1, total - 1))
    alone = _alone(total, count)
    assert alone == count or alone + _clusters(total, alone) <= count <= total


@given(st.integers(1, 30), st.integers(0, 10**6), st.data())
@settings(max_examples=40, deadline=None)
def test_clusters_have_one_centre_each(total, seed, data):
    count = data.draw(st.integers(1, total))
    points = torch.randn(total, 3, generator=torch.Generator().manual_seed(seed))
    centre, member = density_peaks(points, count)
    assert centre.tolist() == sorted(set(centre.tolist()))
    assert member[centre].tolist() == list(range(count))
    far = torch.cdist(points, points[centre])
    others = [i for i in range(total) if i not in centre.tolist()]
    torch.testing.assert_close(far[others, member[others]], far[others].amin(dim=1))


@given(st.integers(6, 40), st.integers(0, 10**6), st.sampled_from([0.0, 3000.0]), st.data())
@settings(max_examples=30, deadline=None)
def test_centres_are_those_of_a_loop(total, seed, away, data):
    """Du et al.: dense, and far from whatever is denser; wherever the points lie, since states hold huge entries."""
    count = data.draw(st.integers(1, total))
    points = torch.randn(total, 6, generator=torch.Generator().manual_seed(seed))
    points[:, 2] += away
    rows = points.double().tolist()
    far = [[sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) ** 0.5 / 6**0.5 for y in rows] for x in rows]
    dense = [math.exp(-sum(d**2 for d in sorted(line)[:5]) / 5) for line in far]
    worth = []
    for i in range(total):
        denser = [far[i][j] for j in range(total) if dense[j] > dense[i]]
        worth.append(dense[i] * (min(denser) if denser else max(far[i])))
    want = sorted(range(total), key=lambda i: -worth[i])
    edge = [worth[i] for i in want[count - 1 : count + 1]]
    assume(len(edge) < 2 or edge[0] - edge[1] > 1e-3)
    assert density_peaks(points, count)[0].tolist() == sorted(want[:count])


def test_two_heaps_of_points_are_two_clusters():
    points = torch.cat([torch.randn(10, 4) * 0.01, 5 + torch.randn(12, 4) * 0.01])
    _, member = density_peaks(points, 2)
    assert member[:10].unique().numel() == member[10:].unique().numel() == 1
    assert member[0] != member[10]


def test_raters_resemble_the_image():
    visual = torch.eye(4)[:2] * 3
    assert raters(visual, torch.eye(4) * 3).tolist() == [True, True, False, False]


@given(st.integers(0, 10**6), st.sampled_from([4, 8]), st.floats(0.5, 2.0))
@settings(max_examples=30, deadline=None)
def test_rotations_are_undone(seed, width, scale):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, 5, 8, generator=generator)
    angle = torch.randn(5, width // 2, generator=generator).repeat(1, 2)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    low, high = values[..., :width].chunk(2, dim=-1)
    turned = values[..., :width] * cos + torch.cat([-high, low], dim=-1) * sin
    back = unrotated(torch.cat([turned, values[..., width:]], dim=-1), cos, sin)
    torch.testing.assert_close(back, values, rtol=1e-4, atol=1e-5)


def test_schedules_come_as_lists_too():
    assert check_schedule([[1, 0.5], [0.5, 0]]) == ((1, 0.5), (0.5, 0))


def test_a_mean_of_some_queries_is_that_of_all_their_attention():
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(4, 80, 8, generator=generator), torch.randn(2, 90, 8, generator=generator)
    visible = torch.rand(80, 90, generator=generator) < 0.6
    angles = (torch.ones(0, 0), torch.ones(0, 0))
    shown = Attention(query, key, visible, 80, torch.arange(5, 30), torch.arange(30, 80), angles, angles, 0.4)
    rows = torch.arange(0, 80, 2)[3:]
    torch.testing.assert_close(shown.mean_to_own(rows), shown.to_own()[:, rows].mean(dim=(0, 1)))
