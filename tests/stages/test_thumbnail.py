"""The thumbnail allocator: its formula by fractions, and its geometry by one-hot maps."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from tests.stages.images import (
    TILINGS,
    Tiling,
    spot,
    transposed,
    with_logits,
)
from vtc import Layout, VisualTokens
from vtc.core.budget import share
from vtc.stages import Even, Thumbnail

RULE = Thumbnail(10.0, attend="logits")
"""Most tests give logits, which may be any numbers."""
tilings = pytest.mark.parametrize("tiling", TILINGS, ids=str)


def attended(layout: Layout, values: torch.Tensor) -> list[Fraction]:
    """The centred map over each tile's box, cell by cell, in fractions; the thumbnail is unit 0."""
    height, width = values.shape
    exact = [[Fraction(v) for v in row] for row in values.double().tolist()]
    mean = sum(map(sum, exact)) / (height * width)
    sums = []
    for box in layout.boxes[1:]:
        top, left, bottom, right = map(Fraction, box)
        total = Fraction(0)
        for y in range(height):
            for x in range(width):
                down = min(bottom * height, y + 1) - max(top * height, y)
                across = min(right * width, x + 1) - max(left * width, x)
                total += max(down, 0) * max(across, 0) * (exact[y][x] - mean)
        sums.append(total)
    return sums


def expected(layout: Layout, values: torch.Tensor, total: int, temperature: float = 10) -> list[int]:
    """The rule as it is written."""
    sums = [float(s) for s in attended(layout, values)]
    powers = [math.exp((s - max(sums)) / temperature) for s in sums]
    p = [power / sum(powers) for power in powers]
    candidates = layout.candidates
    gains = [max(0.0, 1 + own - sum(p) / len(p)) for own in p]
    weights = [candidates[0], *(own * round(gain, 12) for own, gain in zip(candidates[1:], gains, strict=True))]
    return share(total, weights, caps=candidates)


@tilings
@pytest.mark.parametrize("seed", range(3))
def test_thumbnail_follows_the_formula(tiling, seed):
    layout = tiling.layout
    values = torch.randn(tiling.view, generator=torch.Generator().manual_seed(seed)) * 2
    tokens = with_logits(layout, values)
    for part in (0.1, 0.25, 0.5, 0.9):
        total = int(part * sum(layout.candidates))
        assert list(RULE.allocate(tokens, total)) == expected(layout, values, total)
        assert list(Thumbnail(0.5, attend="logits").allocate(tokens, total)) == expected(layout, values, total, 0.5)


def check_gain(tiling: Tiling, layout: Layout, y: int, x: int) -> None:
    """All attention on one cell of the thumbnail: the tile that holds it gains, and no other does.

    Args:
        tiling: the true one.
        layout: what the allocator is told.
        y, x: a cell that lies in one tile.
    """
    height, width = tiling.view
    boxes = tiling.layout.boxes[1:]
    inside = [
        t <= y / height and (y + 1) / height <= b and left <= x / width and (x + 1) / width <= r
        for t, left, b, r in boxes
    ]
    assert sum(inside) == 1
    total = sum(layout.candidates) // 3
    even = Even().allocate(with_logits(layout, torch.zeros(tiling.view)), total)
    got = RULE.allocate(with_logits(layout, spot(tiling.view, y, x)), total)
    gains = [after > before for after, before in zip(got[1:], even[1:], strict=True)]
    assert gains == inside, f"{got} from {even}, all attention at {y}, {x}"


def inner_cells(tiling: Tiling) -> list[tuple[int, int]]:
    """The cells of the thumbnail that lie within one tile."""
    height, width = tiling.view
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        for top, left, bottom, right in tiling.layout.boxes[1:]
        if top <= y / height and (y + 1) / height <= bottom and left <= x / width and (x + 1) / width <= right
    ]


def check_gains(tiling: Tiling, layout: Layout) -> None:
    """`check_gain` for every cell that lies in one tile."""
    cells = inner_cells(tiling)
    assert cells
    for y, x in cells:
        check_gain(tiling, layout, y, x)


@tilings
def test_the_tile_under_the_attention_gains(tiling):
    check_gains(tiling, tiling.layout)


@pytest.mark.parametrize("tiling", [t for t in TILINGS if t.rows != t.columns], ids=str)
def test_transposed_boxes_are_found_out(tiling):
    """Negative control. (On equal sides a transposition swaps tiles, which the next test tells apart.)"""
    with pytest.raises(AssertionError, match="all attention at"):
        check_gains(tiling, transposed(tiling.layout))


def test_transposed_boxes_of_a_square_are_found_out():
    tiling = Tiling(2, 2)
    with pytest.raises(AssertionError, match="all attention at"):
        check_gain(tiling, transposed(tiling.layout), 0, tiling.view[1] - 1)


def test_a_cell_that_two_tiles_share_counts_for_both_by_area():
    """Five cells over two tiles: the middle one is halved, where rounding would give it to one tile."""
    tiling = Tiling(1, 2, view=(1, 5))
    tokens = with_logits(tiling.layout, spot((1, 5), 0, 2))
    assert list(RULE.allocate(tokens, 42)) == list(Even().allocate(tokens, 42))
    uneven = replace(tiling.layout, boxes=((0, 0, 1, 1), (0, 0, 1, 0.45), (0, 0.45, 1, 1)))
    counts = RULE.allocate(replace(tokens, layout=uneven), 42)
    assert counts[1] < counts[2]


@tilings
def test_constant_logits_share_evenly_up_to_area(tiling):
    """Centred, a constant says nothing: tiles cut by the border get their part, though their area is smaller."""
    layout = tiling.layout
    for value in (0.0, 3.7, -1234.5, torch.nan, torch.inf):
        tokens = with_logits(layout, torch.full(tiling.view, value))
        for total in (5, sum(layout.candidates) // 4):
            assert list(RULE.allocate(tokens, total)) == list(Even().allocate(tokens, total))


def test_logits_are_defined_up_to_a_constant():
    tiling = Tiling(2, 3, pad=(1.3, 0))
    values = torch.randint(-64, 64, tiling.view) / 16
    found = [RULE.allocate(with_logits(tiling.layout, values + shift), 60) for shift in (0, 8, -512)]
    assert list(found[0]) == list(found[1]) == list(found[2])


def test_one_nan_says_nothing_and_spoils_nothing():
    tiling = Tiling(1, 2)
    values = spot(tiling.view, 1, 1)
    spoilt = values.clone()
    spoilt[7, 5] = torch.nan
    counts = RULE.allocate(with_logits(tiling.layout, spoilt), 40)
    assert counts[1] > counts[2]


@pytest.mark.parametrize("kinds", [("tile",) * 3, ("thumbnail",) * 3, ("frame",) * 3, ("image",) * 3], ids=str)
def test_without_thumbnail_or_tiles_it_is_even(kinds):
    layout = replace(Layout.join([Layout.of_grid(2, 3), Layout.of_grid(4, 4), Layout.of_grid(3, 3)]), kinds=kinds)
    tokens = with_logits(layout, spot((2, 3), 0, 0))
    assert list(RULE.allocate(tokens, 13)) == list(Even().allocate(tokens, 13))


def test_several_thumbnails_are_averaged():
    one = Tiling(1, 2).layout
    two = Layout.join([Layout.of_grid(8, 6, kind="thumbnail"), one])
    logits = torch.zeros(len(two))
    logits[0], logits[48 + 5] = 1000.0, 1000.0  # the left of the one, the right of the other
    tokens = VisualTokens(torch.ones(len(two), 2), two, {"attention_logits": logits})
    assert list(RULE.allocate(tokens, 64)) == list(Even().allocate(tokens, 64))
    logits[48 + 5] = 0.0
    counts = RULE.allocate(tokens, 64)
    assert counts[2] > counts[3]


def test_a_tile_of_padding_alone_is_left_out():
    """Its unit has no candidates, so it is no tile among which attention is shared."""
    layout = Tiling(1, 2).layout
    padded = replace(
        layout, grids=(*layout.grids, (1, 0, 0)), kinds=(*layout.kinds, "tile"), boxes=(*layout.boxes, (0, 0.9, 1, 0.9))
    )
    values = spot((8, 6), 0, 0)
    want = RULE.allocate(with_logits(layout, values), 40)
    assert list(RULE.allocate(with_logits(padded, values), 40)) == [*want, 0]


def with_attention(layout: Layout, values: torch.Tensor) -> VisualTokens:
    """An item whose thumbnail, unit 0, is attended to by `values` `[height, width]`."""
    attention = torch.zeros(len(layout))
    attention[layout.unit == 0] = values.flatten().float()
    return VisualTokens(torch.ones(len(layout), 2), layout, {"attention": attention})


@tilings
@pytest.mark.parametrize("seed", range(3))
def test_attention_counts_in_multiples_of_its_mean(tiling, seed):
    """The sums of the other rule, over the mean attention and the tile's area in cells."""
    layout, (height, width) = tiling.layout, tiling.view
    values = torch.randn(tiling.view, generator=torch.Generator().manual_seed(seed)).exp() / 64
    areas = [
        (min(b, 1) - max(t, 0)) * height * (min(right, 1) - max(left, 0)) * width
        for t, left, b, right in layout.boxes[1:]
    ]
    sums = [float(s) for s in attended(layout, values)]
    means = [s / area / float(values.double().mean()) for s, area in zip(sums, areas, strict=True)]
    for temperature in (0.25, 2.0):
        powers = [math.exp((s - max(means)) / temperature) for s in means]
        gains = [1 + power / sum(powers) - 1 / len(powers) for power in powers]
        candidates = layout.candidates
        weights = [candidates[0], *(own * round(gain, 12) for own, gain in zip(candidates[1:], gains, strict=True))]
        for total in (sum(candidates) // 10, sum(candidates) // 2):
            found = Thumbnail(temperature).allocate(with_attention(layout, values), total)
            assert list(found) == share(total, weights, caps=candidates)


def test_a_temperature_means_the_same_for_thumbnails_of_any_size():
    values = torch.tensor([[1.0, 2.0, 5.0], [1.0, 3.0, 4.0]])
    fine = values.repeat_interleave(4, 0).repeat_interleave(4, 1)
    small, large = Tiling(2, 2, view=(2, 3)).layout, Tiling(2, 2, view=(8, 12)).layout

    def tiles(rule: Thumbnail, with_values) -> list[list[int]]:
        pairs = ((small, values), (large, fine))
        # As many tokens as leave the tiles the same, whatever the thumbnail takes.
        counts = [rule.allocate(with_values(layout, one), sum(layout.candidates) // 2) for layout, one in pairs]
        return [list(one[1:]) for one in counts]

    first, second = tiles(Thumbnail(1.0), with_attention)
    assert first == second
    assert len(set(first)) > 1
    first, second = tiles(RULE, with_logits)  # the control: a sum grows with the cells
    assert first != second


def test_no_attention_at_all_is_even():
    layout = Tiling(1, 2).layout
    for values in (torch.zeros(8, 6), torch.full((8, 6), torch.nan)):
        assert list(Thumbnail().allocate(with_attention(layout, values), 40)) == list(
            Even().allocate(with_attention(layout, values), 40)
        )
