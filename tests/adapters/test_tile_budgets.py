"""Shares of tiles by the adapters' own layouts: one-hot maps show that each allocator looks at the right place."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import GotOcr2ImageProcessor, LlavaNextImageProcessor
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution

from tests.adapters.test_tiles import IMAGES, drawn, next_model
from vtc import Layout, VisualTokens, adapters
from vtc.adapters.internvl import layout_of_tiles
from vtc.stages import (
    Density,
    Even,
    Joint,
    Thumbnail,
)

SIDE, PATCH = 336, 14
POINTS = [[SIDE * a, SIDE * b] for a, b in ((1, 2), (2, 1), (2, 2), (2, 3), (3, 2))]
# Height and width, and the tiles that they come to: with padding above and below, beside, or none.
NEXT_CASES = [
    ((200, 640), (1, 2)),
    ((640, 200), (2, 1)),
    ((336, 672), (1, 2)),
    ((560, 640), (2, 2)),
    ((640, 560), (2, 2)),
    ((600, 1000), (2, 3)),
    ((670, 850), (2, 3)),
    ((1000, 560), (3, 2)),
    ((800, 672), (3, 2)),
    ((672, 800), (2, 3)),
]
INTERN_CASES = [(1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (1, 3)]


def next_case(size: tuple[int, int], grid: tuple[int, int]):
    """The layout by the adapter, and by hand which tile each of some places of the image lies in."""
    model = next_model()
    model.config.image_grid_pinpoints = POINTS
    assert select_best_resolution(size, POINTS) == (grid[0] * SIDE, grid[1] * SIDE)
    processor = LlavaNextImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=POINTS
    )
    inputs = dict(processor(drawn(size, (0.5, 0.5), 0.1), return_tensors="pt"))
    (item,) = adapters.find(model).media(inputs)
    canvas = (grid[0] * SIDE, grid[1] * SIDE)
    fitted = get_patch_output_size(torch.empty(3, *size), canvas, "channels_first")
    left, top, *_ = IMAGES["next"]._get_padding_size(fitted, canvas)

    def tile_at(y: Tensor, x: Tensor) -> Tensor:
        row, column = ((top + y * fitted[0]) / SIDE).long(), ((left + x * fitted[1]) / SIDE).long()
        return row.clamp_max(grid[0] - 1) * grid[1] + column.clamp_max(grid[1] - 1)

    return item.layout, tile_at, [1 + t for t in range(grid[0] * grid[1])], 0


def intern_case(grid: tuple[int, int]):
    rows, columns = grid
    processor = GotOcr2ImageProcessor(size={"height": 224, "width": 224}, crop_to_patches=True)
    tiles = processor(drawn((224 * rows, 224 * columns), (0.3, 0.7), 0.2), return_tensors="pt")["pixel_values"]

    def tile_at(y: Tensor, x: Tensor) -> Tensor:
        return (y * rows).long().clamp_max(rows - 1) * columns + (x * columns).long().clamp_max(columns - 1)

    return layout_of_tiles(tiles, 8), tile_at, list(range(rows * columns)), rows * columns


CASES = [pytest.param(next_case, case, id=f"next-{case[0]}") for case in NEXT_CASES]
CASES += [pytest.param(intern_case, (grid,), id=f"internvl-{grid}") for grid in INTERN_CASES]
every_image = pytest.mark.parametrize(("build", "case"), CASES)


def tokens_of(layout: Layout, **cues: Tensor) -> VisualTokens:
    return VisualTokens(torch.zeros(len(layout), 4), layout, cues)


def hot(layout: Layout, view: int, cell: int, height: float) -> Tensor:
    """Logits of the thumbnail that are all at one cell; what the tiles themselves say must not matter."""
    logits = torch.linspace(-5, 5, len(layout))
    mine = torch.nonzero((layout.unit == view) & ~layout.structural).flatten()
    logits[mine] = 0.0
    logits[mine[cell]] = height
    return logits


@every_image
def test_the_tile_under_the_attended_cell_gains_by_the_formula(build, case):
    layout, tile_at, tiles, view = build(*case)
    _, height, width = layout.grids[view]
    total, temperature = sum(layout.candidates) // 3, 2.0
    fine = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    for cell in range(0, height * width, 7):
        y = ((cell // width + fine) / height)[:, None].expand(100, 100).flatten()
        x = ((cell % width + fine) / width).expand(100, 100).flatten()
        # Tokens are whole: a strip at the border of the image, thinner than one, may lie under none.
        top, left, bottom, right = torch.tensor([layout.boxes[t] for t in tiles]).T[:, tile_at(y, x)]
        covered = (y >= top) & (y < bottom) & (x >= left) & (x < right)
        under = torch.bincount(tile_at(y, x)[covered], minlength=len(tiles)) / len(y)
        counts = Thumbnail(temperature, attend="logits").allocate(
            tokens_of(layout, attention_logits=hot(layout, view, cell, 9.0)), total
        )
        # By hand: each tile's area in cells, less what the others' mean takes.
        area = torch.tensor([area_of(layout, t, height, width) for t in tiles], dtype=torch.float64)
        s = 9.0 * under - 9.0 / (height * width) * area
        p = ((s - s.max()) / temperature).softmax(0)
        weights = {t: layout.candidates[t] * float(1 + p[i] - 1 / len(tiles)) for i, t in enumerate(tiles)}
        weights[view] = float(layout.candidates[view])
        scale = total / sum(weights.values())
        if all(scale * w <= layout.candidates[u] for u, w in weights.items()):
            for unit, weight in weights.items():
                assert abs(counts[unit] - scale * weight) <= 1 + 0.02 * weight * scale, (cell, unit)
        assert sum(counts) == total
        rates = {t: counts[t] / layout.candidates[t] for t in tiles}
        if float(under.max()) == 1.0 and len(set(rates.values())) > 1:
            assert max(rates, key=rates.get) == tiles[int(under.argmax())]


def area_of(layout: Layout, unit: int, height: int, width: int) -> float:
    """How many cells of the thumbnail the tile's part of the image covers."""
    top, left, bottom, right = (min(max(edge, 0.0), 1.0) for edge in layout.boxes[unit])
    return (bottom - top) * height * (right - left) * width


@every_image
def test_a_blank_tile_is_served_last(build, case):
    layout, _, tiles, view = build(*case)
    total = sum(layout.candidates) // 2
    for blank in (*tiles, view):
        keys = torch.randn(len(layout), 32, generator=torch.Generator().manual_seed(blank))
        keys[layout.unit == blank] = keys[0].clone()
        counts = Density().allocate(tokens_of(layout, keys=keys), total)
        assert sum(counts) == total
        spare = total - (sum(layout.candidates) - layout.candidates[blank])
        assert counts[blank] == max(0, spare)


@every_image
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_even_shares_are_exact(build, case, share):
    layout, _, _, _ = build(*case)
    total = math.ceil(share * sum(layout.candidates))
    counts = Even().allocate(tokens_of(layout), total)
    assert sum(counts) == total
    ideal = [total * own / sum(layout.candidates) for own in layout.candidates]
    assert all(abs(count - want) < 1 for count, want in zip(counts, ideal, strict=True))
    assert Joint().allocate(tokens_of(layout), total) == [total]


@every_image
def test_few_tokens_leave_tiles_without_any_unless_there_is_a_floor(build, case):
    layout, _, _, view = build(*case)
    units = len(layout.grids)
    tokens = tokens_of(layout, attention=hot(layout, view, 0, 9.0), keys=torch.randn(len(layout), 8))
    for allocator in (Even, Thumbnail, Density):
        assert min(allocator().allocate(tokens, 1)) == 0
        assert allocator(floor=1).allocate(tokens, units) == [1] * units
        assert sorted(allocator(floor=1).allocate(tokens, units - 1)) == [0] + [1] * (units - 1)


def test_a_uniform_cut_of_the_thumbnail_is_found():
    """The control: with boxes as the released code has them, padding moves attention to the wrong tile."""
    layout, tile_at, tiles, view = next_case((800, 672), (3, 2))
    boxes = [layout.boxes[view], *[(r / 3, c / 2, (r + 1) / 3, (c + 1) / 2) for r in range(3) for c in range(2)]]
    cut = Layout(layout.unit, layout.cell, layout.structural, layout.grids, layout.kinds, tuple(boxes))
    wrong = []
    for cell in range(24 * 24):
        y, x = torch.tensor((cell // 24 + 0.5) / 24), torch.tensor((cell % 24 + 0.5) / 24)
        true = tiles[int(tile_at(y, x))]
        for found, kind in ((layout, "true"), (cut, "cut")):
            logits = hot(found, view, cell, 200.0)
            counts = Thumbnail(0.5, attend="logits").allocate(tokens_of(found, attention_logits=logits), 1200)
            rates = [counts[t] / found.candidates[t] for t in tiles]
            if tiles[rates.index(max(rates))] != true:
                wrong.append(kind)
    assert wrong.count("cut") > wrong.count("true")
