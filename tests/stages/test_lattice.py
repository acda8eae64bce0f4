"""`Grid` and `Area`: exact counts, rectangles, 2-D average pooling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d

from tests.checks import check_chosen, check_close
from tests.stages.test_stages import exact_rows, item, layouts
from vtc import Layout, Recipe
from vtc.stages import (
    Area,
    Even,
    Grid,
    Joint,
    KCenter,
    Stride,
)
from vtc.stages.grid_partition import lattice, unit_pieces


@st.composite
def cuts(draw) -> tuple[tuple[int, int, int], int]:
    """A grid and a number of pieces."""
    frames, height, width = draw(st.integers(1, 4)), draw(st.integers(1, 14)), draw(st.integers(1, 14))
    return (frames, height, width), draw(st.integers(1, frames * height * width))


def cells_of(grid: tuple[int, int, int], piece: torch.Tensor) -> list[list[tuple[int, int, int]]]:
    """The (t, h, w) cells of each piece."""
    cells = [tuple(cell) for cell in Layout.of_grid(grid[1], grid[2], frames=grid[0]).cell.tolist()]
    return [[c for c, own in zip(cells, piece.tolist(), strict=True) if own == p] for p in range(int(piece.max()) + 1)]


def sides(cells: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    """The size of the box around cells."""
    return tuple(max(axis) - min(axis) + 1 for axis in zip(*cells, strict=True))


@given(cut=cuts())
def test_exactly_k_boxes_cover_the_grid(cut):
    grid, k = cut
    piece = lattice(grid, k)
    assert sorted(set(piece.tolist())) == list(range(k))
    for cells in cells_of(grid, piece):
        frames, height, width = sides(cells)
        assert len(cells) == frames * height * width
        assert frames == 1 or (k < grid[0] and (height, width) == grid[1:])


@given(cut=cuts())
def test_pieces_are_even(cut):
    grid, k = cut
    found = [(cells[0][0], *sides(cells)) for cells in cells_of(grid, lattice(grid, k))]
    by_frame = [[(h, w) for frame, _, h, w in found if frame == t] for t in range(grid[0])]
    if k < grid[0]:
        assert {t for _, t, _, _ in found} <= {grid[0] // k, -(-grid[0] // k)}
        return
    assert max(map(len, by_frame)) - min(map(len, by_frame)) <= 1
    for pieces in by_frame:
        heights, counts = [], []
        rest = list(pieces)
        while rest:
            # Pieces are numbered band by band: a band ends where its widths fill the frame.
            width = 0
            band = 0
            while width < grid[2]:
                height, own = rest.pop(0)
                width, band = width + own, band + 1
            heights.append(height)
            counts.append(band)
            assert width == grid[2]
        assert max(heights) - min(heights) <= 1
        assert max(counts) - min(counts) <= 1
        bands = [b for b in range(1, grid[1] + 1) if b <= len(pieces) <= b * grid[2]]
        ratio = {b: abs(math.log(grid[1] / b * len(pieces) / b / grid[2])) for b in bands}
        assert ratio[len(heights)] <= min(ratio.values()) + 1e-12


@pytest.mark.parametrize(
    ("grid", "k", "window"), [((1, 24, 24), 144, 2), ((1, 24, 24), 64, 3), ((1, 12, 18), 24, 3), ((2, 8, 8), 32, 2)]
)
def test_whole_windows_are_plain_pooling(grid, k, window):
    frames, height, width = grid
    layout = Layout.of_grid(height, width, frames=frames)
    tokens = item(exact_rows(len(layout)), layout)
    pooled = Recipe((Grid(), Area())).reduce(tokens, k).apply(tokens.features)
    planes = tokens.features.view(frames, height, width, -1).permute(0, 3, 1, 2)
    check_close(pooled, avg_pool2d(planes, window).permute(0, 2, 3, 1).reshape(k, -1), "pooled features")


def test_all_and_one():
    assert lattice((2, 3, 4), 24).tolist() == list(range(24))
    assert lattice((1, 3, 4), 1).tolist() == [0] * 12
    assert lattice((2, 3, 4), 1).tolist() == [0] * 24
    assert Grid().select(item(exact_rows(15), Layout.of_grid(3, 5)), torch.arange(15), 1, seed=0).tolist() == [7]


def test_the_anchor_is_the_middle_and_the_lower_of_equals():
    tokens = item(exact_rows(16), Layout.of_grid(4, 4))
    assert Grid().select(tokens, torch.arange(16), 4, seed=0).tolist() == [0, 2, 8, 10]
    tokens = item(exact_rows(54), Layout.of_grid(6, 9))
    assert Grid().select(tokens, torch.arange(54), 6, seed=0).tolist() == [10, 13, 16, 37, 40, 43]
    tokens = item(exact_rows(18), Layout.of_grid(2, 3, frames=3))
    assert Grid().select(tokens, torch.arange(18), 1, seed=0).tolist() == [7]


def anchors_by_hand(layout: Layout, unit: int, k: int) -> list[int]:
    """The token nearest the middle of each piece, by looking at all of them."""
    grid = layout.grids[unit]
    token = {tuple(layout.cell[i].tolist()): i for i in range(len(layout)) if layout.unit[i] == unit}
    found = []
    for cells in cells_of(grid, lattice(grid, k)):
        middle = [(min(axis) + max(axis)) / 2 for axis in zip(*cells, strict=True)]
        found.append(min((math.dist(cell, middle), token[cell]) for cell in cells)[1])
    return found


@given(layout=layouts(), data=st.data())
def test_grid_and_area_follow_the_pieces_of_each_unit(layout, data):
    total = data.draw(st.integers(0, sum(layout.candidates)))
    joint = data.draw(st.booleans())
    tokens = item(exact_rows(len(layout)), layout)
    reduction = Recipe((Joint() if joint else Even(), Grid(), Area())).reduce(tokens, total)
    check_chosen(reduction.anchor, len(layout))
    # Both share in proportion to candidates.
    for unit, k in enumerate(Even().allocate(tokens, total)):
        own = torch.nonzero(~layout.structural & (layout.unit == unit)).flatten()
        if k == 0:
            assert bool((reduction.assign[own] == -1).all())
            continue
        want = anchors_by_hand(layout, unit, k)
        homes = reduction.anchor[reduction.assign[own]].tolist()
        assert homes == [want[piece] for piece in lattice(layout.grids[unit], k).tolist()]
    fixed = torch.nonzero(layout.structural).flatten()
    assert reduction.anchor[reduction.assign[fixed]].tolist() == fixed.tolist()
    assert reduction.weight.tolist() == [1.0] * len(layout)


@given(cut=cuts())
def test_pooling_means_over_each_piece(cut):
    grid, k = cut
    layout = Layout.of_grid(grid[1], grid[2], frames=grid[0])
    tokens = item(exact_rows(len(layout), 4), layout)
    reduction = Recipe((Grid(), Area())).reduce(tokens, k)
    piece = lattice(grid, k)
    by_anchor = {a: tokens.features[piece == piece[a]].mean(dim=0) for a in reduction.anchor.tolist()}
    check_close(reduction.apply(tokens.features), torch.stack([by_anchor[a] for a in sorted(by_anchor)]), "means")


def test_a_part_of_a_unit_is_refused():
    tokens = item(exact_rows(12), Layout.of_grid(3, 4))
    with pytest.raises(ValueError, match=r"pool .*\[11\].*\[0\].*\[12\] candidates.*'stride'"):
        Grid().select(tokens, torch.arange(11), 3, seed=0)


@dataclass(frozen=True)
class Holes:
    """Layouts whose candidates do not fill their grid."""

    missing = Layout(
        torch.zeros(4).long(), Layout.of_grid(2, 2).cell, torch.tensor([0, 1, 0, 0]).bool(), ((1, 2, 2),), ("image",)
    )
    doubled = Layout(torch.zeros(4).long(), torch.zeros(4, 3).long(), torch.zeros(4).bool(), ((1, 2, 2),), ("image",))


@pytest.mark.parametrize("name", ["missing", "doubled"])
def test_a_grid_with_holes_is_refused(name):
    tokens = item(exact_rows(4), getattr(Holes, name))
    with pytest.raises(ValueError, match=r"unit 0 has \d candidates .*\(1, 2, 2\).*'stride'"):
        Recipe((Grid(),)).reduce(tokens, 2)


@pytest.mark.parametrize("selector", [Stride(), KCenter()], ids=lambda stage: stage.name)
def test_area_refuses_the_anchors_of_other_selectors(selector):
    tokens = item(exact_rows(36), Layout.of_grid(6, 6))
    with pytest.raises(ValueError, match=r"anchor .*unit 0.* 9 even rectangles; 'area' .*'grid'"):
        Recipe((selector, Area())).reduce(tokens, 9)


def test_pieces_of_a_transposed_grid_are_found_out():
    """Negative control: the check by hand tells rows from columns."""
    layout = Layout.of_grid(4, 6)
    wrong = Layout.of_grid(6, 4)
    assert anchors_by_hand(layout, 0, 6) == unit_pieces(layout, 0, 6).anchor.tolist()
    assert anchors_by_hand(wrong, 0, 6) != unit_pieces(layout, 0, 6).anchor.tolist()
