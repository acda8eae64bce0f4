"""Local-global scores: the sampling against torch's own, the rule by hand, the geometry by one-hot maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample, interpolate

from tests.stages.images import (
    TILINGS,
    Tiling,
    spot,
    transposed,
    with_logits,
)
from vtc import Layout, Recipe, VisualTokens
from vtc.recipes.named import recipe
from vtc.stages import Joint, LocalGlobal, Thumbnail
from vtc.stages.allocate.thumbnail import _attended
from vtc.stages.thumbnail_maps import sampled

RULE = LocalGlobal(attend="logits")
"""Most tests give logits, which may be any numbers."""
tilings = pytest.mark.parametrize("tiling", TILINGS, ids=str)


def pool_of(layout: Layout, unit: int) -> torch.Tensor:
    """The candidates of a unit."""
    return torch.nonzero(~layout.structural & (layout.unit == unit)).flatten()


def scaled(values: np.ndarray) -> np.ndarray:
    """Centred, of length one; zeros if all are equal."""
    away = values - values.mean()
    return away / np.linalg.norm(away) if np.ptp(values) > 0 else 0 * values


def scores(tokens: VisualTokens, unit: int) -> np.ndarray:
    """The rule by torch's own sampling, token by token; the thumbnail is unit 0, and its box the whole image."""
    layout, logits = tokens.layout, tokens.cues["attention_logits"].double()
    own = [i for i in range(len(layout)) if layout.unit[i] == unit]
    local = scaled(logits[own].numpy())
    if unit == 0:
        return local
    view = logits[layout.unit == 0].view(1, 1, *layout.grids[0][1:])
    top, left, bottom, right = layout.boxes[unit]
    _, height, width = layout.grids[unit]
    seen = []
    for i in own:
        _, y, x = layout.cell[i].tolist()
        down, across = top + (y + 0.5) / height * (bottom - top), left + (x + 0.5) / width * (right - left)
        place = torch.tensor([2 * across - 1, 2 * down - 1], dtype=torch.float64).view(1, 1, 1, 2)
        seen.append(float(grid_sample(view, place, align_corners=False, padding_mode="border")))
    return local + scaled(np.array(seen))


def best(score: np.ndarray, k: int) -> list[int]:
    """The places of the `k` highest, the lower of those equal in fp32."""
    return sorted(sorted(range(len(score)), key=lambda i: (-np.float32(score[i]), i))[:k])


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 6)], ids=str)
def test_samples_are_those_of_torch(size):
    values = torch.randn(size, dtype=torch.float64)
    places = torch.rand(500, 2, dtype=torch.float64) * 1.4 - 0.2
    grid = (2 * places.flip(1) - 1).view(1, 1, -1, 2)
    want = grid_sample(values[None, None], grid, align_corners=False, padding_mode="border").flatten()
    torch.testing.assert_close(sampled(values, places), want)


def test_on_even_tiles_it_is_bilinear_upsampling():
    """What the released code does: the map at the size of all tiles, cut into tiles."""
    tiling = Tiling(2, 3)
    values = torch.randn(tiling.view, dtype=torch.float64)
    layout = tiling.layout
    full = interpolate(values[None, None], size=(12, 24), mode="bilinear", align_corners=False)[0, 0]
    for unit in range(1, 7):
        row, column = divmod(unit - 1, 3)
        want = full[row * 6 : row * 6 + 6, column * 8 : column * 8 + 8].flatten()
        torch.testing.assert_close(sampled(values, layout.centres[pool_of(layout, unit)]), want)


@tilings
@pytest.mark.parametrize("seed", range(3))
def test_the_choice_is_that_of_the_rule(tiling, seed):
    layout = tiling.layout
    generator = torch.Generator().manual_seed(seed)
    tokens = with_logits(
        layout, torch.randn(tiling.view, generator=generator), torch.randn(len(layout), generator=generator)
    )
    for unit in range(len(layout.grids)):
        pool = pool_of(layout, unit)
        score = scores(tokens, unit)
        for k in (1, 5, len(pool) // 2, len(pool)):
            chosen = RULE.select(tokens, pool, k, seed=0)
            assert chosen.tolist() == pool[best(score, k)].tolist()


def check_under(tiling: Tiling, layout: Layout, y: int, x: int) -> None:
    """All attention of the thumbnail on one cell, none of the tiles: the tile that holds the cell's middle keeps the
    token that lies nearest to it, those beyond the outermost middles counting as on them.

    Args:
        tiling: the true one.
        layout: what the selector is told.
        y, x: the cell.
    """
    true = tiling.layout
    edge = 0.5 / torch.tensor(tiling.view, dtype=torch.float64)
    middle = torch.tensor([(y + 0.5) / tiling.view[0], (x + 0.5) / tiling.view[1]], dtype=torch.float64)
    tokens = with_logits(layout, spot(tiling.view, y, x))
    for unit, (top, left, bottom, right) in enumerate(true.boxes[1:], start=1):
        if top < middle[0] < bottom and left < middle[1] < right:
            pool = pool_of(true, unit)
            away = (true.centres[pool].maximum(edge).minimum(1 - edge) - middle).abs()
            chosen = RULE.select(tokens, pool, 1, seed=0)
            if bool((away.amin(dim=0) >= 2 * edge).any()):
                continue  # the tile is coarser than the thumbnail there, and no token sees the cell
            nearest = pool[(away <= away.amin(dim=0) + 1e-9).all(dim=1)]
            assert chosen.item() in nearest.tolist(), f"unit {unit} keeps {chosen.item()}, not {nearest.tolist()}"


def check_all_under(tiling: Tiling, layout: Layout) -> None:
    """`check_under` for every cell."""
    for y in range(tiling.view[0]):
        for x in range(tiling.view[1]):
            check_under(tiling, layout, y, x)


@tilings
def test_the_token_under_the_attention_is_kept(tiling):
    check_all_under(tiling, tiling.layout)


@tilings
def test_transposed_boxes_are_found_out(tiling):
    """Negative control."""
    with pytest.raises(AssertionError, match="keeps"):
        check_all_under(tiling, transposed(tiling.layout))


def test_thumbnails_and_other_kinds_go_by_their_own_logits():
    layout = Tiling(1, 2).layout
    own = torch.randn(len(layout), generator=torch.Generator().manual_seed(1))
    tokens = with_logits(layout, spot((8, 6), 0, 0), own)
    assert RULE.select(tokens, pool_of(layout, 0), 1, seed=0).tolist() == [0]
    for kinds in (("image", "tile", "tile"), ("thumbnail", "frame", "frame")):
        other = replace(tokens, layout=replace(layout, kinds=kinds))
        pool = pool_of(layout, 1)
        want = pool[best(own[pool].double().numpy(), 9)].tolist()
        assert RULE.select(other, pool, 9, seed=0).tolist() == want


def letterboxed(layout: Layout) -> Layout:
    """The layout with a thumbnail of twice the rows, half of them above and below the image."""
    wide = Layout.of_grid(16, 6, kind="thumbnail", box=(-0.5, 0.0, 1.5, 1.0))
    grids, tiles = layout.grids[1:], layout.boxes[1:]
    parts = [Layout.of_grid(h, w, kind="tile", box=box) for (_, h, w), box in zip(grids, tiles, strict=True)]
    return Layout.join([wide, *parts])


@tilings
def test_a_thumbnail_with_borders_of_its_own_is_read_where_the_image_is(tiling):
    plain, boxed = tiling.layout, letterboxed(tiling.layout)
    values = torch.randint(-99, 99, (8, 6), generator=torch.Generator().manual_seed(4)) / 8
    framed = torch.cat([values[:1].expand(4, -1), values, values[-1:].expand(4, -1)])
    for unit in range(1, len(plain.grids)):
        want = RULE.select(with_logits(plain, values), pool_of(plain, unit), 9, seed=0)
        got = RULE.select(with_logits(boxed, framed), pool_of(boxed, unit), 9, seed=0)
        assert (got - 48).tolist() == want.tolist()
    values -= values.mean()
    framed = torch.cat([torch.zeros(4, 6), values, torch.zeros(4, 6)])
    tiles = range(1, len(plain.grids))
    want = _attended(with_logits(plain, values), 0, tiles, "logits")
    torch.testing.assert_close(_attended(with_logits(boxed, framed), 0, tiles, "logits"), want, rtol=0, atol=1e-4)


def test_both_sides_have_one_say():
    """A tile's strongest logit and the place that the thumbnail looks at come first, in whatever units each is."""
    layout = Tiling(1, 2).layout
    pool = pool_of(layout, 1)
    own = torch.zeros(len(layout))
    own[pool[5]] = 1e4
    tokens = with_logits(layout, spot((8, 6), 6, 1, height=1e-3), own)
    chosen = RULE.select(tokens, pool, 2, seed=0).tolist()
    assert chosen[0] == pool[5]
    y, x = layout.centres[chosen[1]].tolist()
    assert abs(y - 6.5 / 8) < 1 / 8
    assert abs(x - 1.5 / 6) < 1 / 6


def test_logits_are_defined_up_to_a_constant():
    tiling = Tiling(2, 2, pad=(1.3, 0.7))
    layout = tiling.layout
    own = torch.randint(-64, 64, (len(layout),), generator=torch.Generator().manual_seed(0)) / 16
    for unit in range(5):
        pool = pool_of(layout, unit)
        found = [
            RULE.select(with_logits(layout, own[:48] + shift, own + shift), pool, 9, seed=0).tolist()
            for shift in (0.0, 16.0, -512.0)
        ]
        assert found[0] == found[1] == found[2]


def test_constants_and_nan_are_guarded():
    layout = Tiling(1, 2).layout
    pool = pool_of(layout, 1)
    flat = with_logits(layout, torch.full((8, 6), 3.3), torch.full((len(layout),), 0.1))
    assert RULE.select(flat, pool, 4, seed=0).tolist() == pool[:4].tolist()
    own = torch.full((len(layout),), 0.1)
    own[pool[:2]] = torch.nan
    own[pool[2]] = torch.inf
    rough = with_logits(layout, torch.full((8, 6), torch.nan), own)
    assert RULE.select(rough, pool, 4, seed=0).tolist() == pool[3:7].tolist()
    assert RULE.select(rough, pool, len(pool) - 1, seed=0).tolist() == [*pool[:2].tolist(), *pool[3:].tolist()]


def test_in_a_joint_pool_each_unit_is_scaled_on_its_own():
    layout = Tiling(1, 2).layout
    own = torch.randn(len(layout), generator=torch.Generator().manual_seed(2))
    tokens = with_logits(layout, torch.randn(8, 6, generator=torch.Generator().manual_seed(3)), own)
    score = np.concatenate([scores(tokens, unit) for unit in range(3)])
    assert Recipe((Joint(), RULE)).reduce(tokens, 30).anchor.tolist() == best(score, 30)


@tilings
def test_the_whole_method_gathers_tokens_where_the_thumbnail_looks(tiling):
    tokens = with_logits(tiling.layout, spot(tiling.view, 0, 0))
    layout = tiling.layout
    anchor = Recipe((Thumbnail(10.0, attend="logits"), RULE)).reduce(tokens, sum(layout.candidates) // 4).anchor
    kept = torch.bincount(layout.unit[anchor], minlength=len(layout.grids))
    part = kept / torch.tensor(layout.candidates)
    assert int(part[1:].argmax()) == 0


@pytest.mark.parametrize("noise", [0.0, 1e-7, -1e-7])
def test_a_tile_of_two_tokens_whose_sides_cancel_out_goes_by_the_lower_index(noise):
    """Own logits say the first, the thumbnail's the second: both scores are nothing but rounding."""
    parts = [Layout.of_grid(1, 2, kind="thumbnail"), Layout.of_grid(1, 2, kind="tile")]
    logits = torch.tensor([0.3, 1.7 + noise, 2.4 + noise, -1.1])
    tokens = VisualTokens(torch.zeros(4, 3), Layout.join(parts), {"attention_logits": logits})
    assert RULE.select(tokens, torch.tensor([2, 3]), 1, seed=0).tolist() == [2]


@tilings
def test_by_default_the_rule_reads_the_attention_itself(tiling):
    layout = tiling.layout
    tokens = with_logits(layout, torch.randn(tiling.view), torch.randn(len(layout)))
    other = torch.randn(len(layout))
    swapped = replace(tokens, cues={"attention": tokens.cues["attention_logits"], "attention_logits": other})
    assert LocalGlobal().cues == ("attention",)
    assert RULE.cues == ("attention_logits",)
    for unit in range(len(layout.grids)):
        pool = pool_of(layout, unit)
        want = RULE.select(tokens, pool, 5, seed=0).tolist()
        # Scores are of length one whatever their scale, so that the same numbers choose alike under either name.
        assert LocalGlobal().select(swapped, pool, 5, seed=0).tolist() == want
    with pytest.raises(ValueError, match=r"attend='mean'; .*softmax, logits"):
        LocalGlobal(attend="mean")


def test_a_recipe_file_keeps_what_is_read(tmp_path):
    for name in ("globalcom2", "globalcom2-released"):
        made = recipe(name)
        made.save(tmp_path / "r.json")
        assert Recipe.load(tmp_path / "r.json") == made
    assert recipe("globalcom2").cues == ("attention",)
    assert recipe("globalcom2-released").cues == ("attention_logits",)
