"""What every stage must hold on its own, without a model. All registered stages are in it by their registry."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.checks import check_chosen, check_same
from vtc import (
    Layout,
    Recipe,
    VisualTokens,
    adapters,
    named_recipes,
)
from vtc.stages import (
    STAGES,
    Cls,
    ClsSampling,
    DiffRate,
    Even,
    FrameSelector,
    KCenter,
    MaxSum,
    Mean,
    Random,
    Resize,
    Resizer,
    Selector,
    Stage,
    Stride,
)


def registered(kind: str) -> list[Stage]:
    """Every stage of a kind, with its default parameters."""
    return [STAGES.get(name)() for name in STAGES if name.startswith(f"{kind}/")]


SELECTORS = [*registered("select"), MaxSum(pivot="attention"), ClsSampling(rule="outliers")]

selectors = pytest.mark.parametrize("selector", SELECTORS, ids=str)
of_any_pool = pytest.mark.parametrize("selector", [s for s in SELECTORS if s.name != "grid"], ids=str)
"""Those that choose from a part of a unit too."""
mergers = pytest.mark.parametrize("merger", [Mean()], ids=lambda stage: stage.name)
"""Those that merge into any anchors; for the others see `test_lattice.py`."""
allocators = pytest.mark.parametrize("allocator", registered("allocate"), ids=lambda stage: stage.name)
INPUTS = registered("input")
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


def exact_rows(total: int, width: int = 16, seed: int = 0) -> torch.Tensor:
    """Rows that fp32, bf16 and fp16 all hold exactly."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 129, (total, width), generator=generator) / 64


def item(features: torch.Tensor, layout: Layout | None = None, seed: int = 0) -> VisualTokens:
    """An item with every cue that a stage may ask for, made from the features' seed alone."""
    total = len(features)
    generator = torch.Generator().manual_seed(seed)
    noise, early = torch.rand(2, total, generator=generator)
    cues = dict.fromkeys(("attention", "cls_attention", "received_attention"), noise)
    cues |= {"early_attention": early, "attention_logits": 8 * noise - 4}
    cues |= {name: exact_rows(total, 8, seed + 1).to(features.dtype) for name in ("keys", "encoder_features")}
    cues["question"] = exact_rows(5, features.shape[1], seed + 2)
    layout = layout or Layout.of_grid(1, total)
    cues["frames"] = torch.rand(len(layout.grids), 1, 3, 8, 8, generator=generator)
    return VisualTokens(features, layout, cues, key=total)


ROUGH = {
    "equal rows": torch.ones(20, 8),
    "two kinds of rows": torch.eye(2).repeat(10, 4),
    "zero rows": torch.zeros(20, 8),
    "some zero rows": exact_rows(20, 8) * (torch.arange(20) % 3 > 0)[:, None],
    "NaN rows": torch.where((torch.arange(20) % 3 == 0)[:, None], torch.nan, exact_rows(20, 8)),
    "only NaN": torch.full((20, 8), torch.nan),
    "infinite entries": torch.where(torch.arange(160).view(20, 8) % 11 == 0, torch.inf, exact_rows(20, 8)),
    "huge rows": exact_rows(20, 8) * 1e38,
    "tiny rows": exact_rows(20, 8) * 1e-38,
    "one column": exact_rows(20, 1),
    "opposite rows": torch.cat([exact_rows(10, 8), -exact_rows(10, 8)]),
}


@st.composite
def layouts(draw) -> Layout:
    """Units of any size and kind, each in raster order; structural tokens anywhere, and units of nothing else."""
    sides = st.integers(1, 3)
    grids = draw(st.lists(st.one_of(st.tuples(st.just(1), sides, sides), st.just((1, 0, 0))), min_size=1, max_size=4))
    kinds = draw(st.lists(st.sampled_from(("tile", "thumbnail", "frame")), min_size=len(grids), max_size=len(grids)))
    unit, cell = [], []
    for u, (frames, height, width) in enumerate(grids):
        own = Layout.of_grid(height, width, frames=frames).cell.tolist()
        for place in sorted(draw(st.lists(st.integers(0, len(own)), min_size=not own, max_size=3)), reverse=True):
            own.insert(place, [-1, -1, -1])
        unit += [u] * len(own)
        cell += own
    cells = torch.tensor(cell)
    return Layout(torch.tensor(unit), cells, cells[:, 0] < 0, tuple(grids), tuple(kinds))


def check_selection(selector: Selector, tokens: VisualTokens, pool: torch.Tensor, k: int) -> None:
    """Exactly k of the pool, ascending, unique, and the same each time; the features are left as they are."""
    before = tokens.features.clone()
    chosen = selector.select(tokens, pool, k, seed=3)
    check_chosen(chosen, len(tokens))
    assert len(chosen) == k
    assert set(chosen.tolist()) <= set(pool.tolist())
    assert selector.select(tokens, pool, k, seed=3).tolist() == chosen.tolist()
    check_same(torch.nan_to_num(tokens.features), torch.nan_to_num(before), "features")


@selectors
@pytest.mark.parametrize("name", ROUGH)
@dtypes
def test_rough_features_still_give_an_exact_selection(selector, name, dtype):
    tokens = item(ROUGH[name].to(dtype))
    for k in (1, 2, 7, 19, 20):
        check_selection(selector, tokens, torch.arange(20), k)
    if selector.name != "grid":
        check_selection(selector, tokens, torch.arange(0, 20, 3), 4)


@selectors
def test_rough_cues_still_give_an_exact_selection(selector):
    for value in (0.0, torch.nan, torch.inf):
        tokens = item(exact_rows(12))
        cues = {name: torch.full_like(cue, value) for name, cue in tokens.cues.items()}
        for k in (1, 5, 12):
            check_selection(selector, replace(tokens, cues=cues), torch.arange(12), k)


@selectors
def test_one_token(selector):
    check_selection(selector, item(exact_rows(1)), torch.arange(1), 1)


@of_any_pool
@given(data=st.data())
def test_any_pool_gives_an_exact_selection(selector, data):
    total = data.draw(st.integers(1, 24))
    pool = torch.tensor(sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1))))
    k = data.draw(st.integers(1, len(pool)))
    check_selection(selector, item(exact_rows(total, seed=data.draw(st.integers(0, 9)))), pool, k)


@selectors
@pytest.mark.parametrize("seed", range(4))
def test_the_same_numbers_are_selected_alike_in_every_dtype(selector, seed):
    rows = exact_rows(64, seed=seed)
    chosen = [
        selector.select(item(rows.to(dtype), seed=seed), torch.arange(64), 20, seed=1).tolist()
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    ]
    assert chosen[0] == chosen[1] == chosen[2]


@selectors
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_the_scale_of_the_features_does_not_matter(selector, scale):
    rows = exact_rows(64)
    want = selector.select(item(rows), torch.arange(64), 20, seed=1)
    check_same(selector.select(item(rows * scale), torch.arange(64), 20, seed=1), want, "selections")


@selectors
def test_selecting_needs_no_gradient_and_takes_none(selector):
    rows = exact_rows(16).requires_grad_()
    chosen = selector.select(item(rows), torch.arange(16), 5, seed=1)
    assert not chosen.requires_grad
    with torch.inference_mode():
        again = selector.select(item(rows), torch.arange(16), 5, seed=1)
    assert again.tolist() == chosen.tolist()


@mergers
@given(layout=layouts(), data=st.data())
def test_a_merger_folds_within_units_and_keeps_what_is_kept(merger, layout, data):
    fixed = torch.nonzero(layout.structural).flatten().tolist()
    free = torch.nonzero(~layout.structural).flatten().tolist()
    stay = data.draw(st.sets(st.sampled_from(free), min_size=1)) if free else set()
    anchor = torch.tensor(sorted({*fixed, *stay}))
    tokens = item(exact_rows(len(layout)), layout)
    reduction = merger.merge(tokens, anchor)
    check_same(reduction.anchor, anchor, "anchors")
    check_same(reduction.assign[anchor], torch.arange(len(anchor)), "assignments of the anchors")
    assert bool((reduction.weight > 0).all())
    for token, output in enumerate(reduction.assign.tolist()):
        if output >= 0:
            home = int(anchor[output])
            assert layout.unit[token] == layout.unit[home]
            assert token == home or not (layout.structural[token] or layout.structural[home])


@mergers
@pytest.mark.parametrize("name", ROUGH)
def test_rough_features_still_give_a_whole_merge(merger, name):
    reduction = merger.merge(item(ROUGH[name]), torch.tensor([1, 4, 9]))
    assert reduction.anchor.tolist() == [1, 4, 9]
    assert int(reduction.assign.min()) >= -1
    assert int(reduction.assign.max()) <= 2
    assert reduction.apply(ROUGH[name]).shape == (3, ROUGH[name].shape[1])


@mergers
def test_the_same_numbers_are_merged_alike_in_every_dtype(merger):
    rows, anchor = exact_rows(64), torch.arange(0, 64, 5)
    found = [merger.merge(item(rows.to(dtype)), anchor) for dtype in (torch.float32, torch.bfloat16, torch.float16)]
    for other in found[1:]:
        check_same(other.assign, found[0].assign, "assignments")
        check_same(other.weight, found[0].weight, "weights")


@given(layout=layouts(), data=st.data())
def test_mean_folds_into_the_most_similar_kept_token(layout, data):
    free = torch.nonzero(~layout.structural).flatten().tolist()
    assume(free)
    stay = data.draw(st.sets(st.sampled_from(free), min_size=1))
    anchor = torch.tensor(sorted({*torch.nonzero(layout.structural).flatten().tolist(), *stay}))
    tokens = item(exact_rows(len(layout)), layout)
    reduction = Mean().merge(tokens, anchor)
    for token in sorted(set(free) - stay):
        homes = [place for place in sorted(stay) if layout.unit[place] == layout.unit[token]]
        if not homes:
            assert reduction.assign[token] == -1
            continue
        near = torch.nn.functional.cosine_similarity(tokens.features[token][None], tokens.features[homes])
        got = anchor[reduction.assign[token]].item()
        assert near[homes.index(got)] >= near.max() - 1e-6
    assert reduction.weight.tolist() == [1.0] * len(layout)


@selectors
@given(layout=layouts(), keep=st.one_of(st.floats(0.01, 1), st.integers(1, 30)), merge=st.booleans())
def test_a_recipe_keeps_what_it_declared_and_all_structural_tokens(selector, layout, keep, merge):
    mine = Recipe((selector, Mean()) if merge else (selector,), keep=keep)
    tokens = item(exact_rows(len(layout)), layout)
    total = mine.count(layout)
    reduction = mine.reduce(tokens, total)
    check_chosen(reduction.anchor, len(layout))
    assert len(reduction.anchor) == total + int(layout.structural.sum())
    assert bool(torch.isin(torch.nonzero(layout.structural).flatten(), reduction.anchor).all())
    assert reduction.apply(tokens.features).shape == (len(reduction.anchor), 16)
    kept = torch.zeros(len(layout), dtype=torch.bool)
    kept[reduction.anchor] = True
    want = mine.allocator.allocate(tokens, total)
    got = [int((kept & ~layout.structural & (layout.unit == unit)).sum()) for unit in range(len(layout.grids))]
    assert got == list(want)


@allocators
@given(layout=layouts(), data=st.data())
def test_an_allocator_shares_the_total_within_what_units_have(allocator, layout, data):
    total = data.draw(st.integers(0, sum(layout.candidates)))
    counts = allocator.allocate(item(exact_rows(len(layout)), layout), total)
    assert sum(counts) == total
    caps = [sum(layout.candidates)] if allocator.joint else layout.candidates
    assert all(0 <= count <= most for count, most in zip(counts, caps, strict=True))


@allocators
@selectors
@given(layout=layouts(), data=st.data())
def test_every_allocator_goes_with_every_selector(allocator, selector, layout, data):
    total = data.draw(st.integers(0, sum(layout.candidates)))
    mine = Recipe((allocator, selector))
    reduction = mine.reduce(item(exact_rows(len(layout)), layout), total)
    assert len(reduction.anchor) == total + int(layout.structural.sum())
    if total < sum(layout.candidates):
        pools = allocator.pools(item(exact_rows(len(layout)), layout), total)
        assert [int(torch.isin(reduction.anchor, pool).sum()) for pool, _ in pools] == [count for _, count in pools]
        shared = torch.cat([pool for pool, _ in pools]).sort().values
        assert shared.tolist() == torch.nonzero(~layout.structural).flatten().tolist()


@pytest.mark.parametrize("mine", [r for r in named_recipes() if r.selector], ids=lambda recipe: recipe.name)
@given(layout=layouts(), keep=st.one_of(st.floats(0.01, 1), st.integers(1, 30)))
def test_every_named_recipe_keeps_its_count_and_says_the_same_from_a_file(mine, layout, keep):
    assume(not isinstance(mine.input, FrameSelector) or set(layout.kinds) != {"frame"} or len(set(layout.grids)) == 1)
    mine = replace(mine, keep=keep)
    tokens = item(exact_rows(len(layout)), layout)
    total = mine.count(layout)
    reduction = mine.reduce(tokens, total)
    check_chosen(reduction.anchor, len(layout))
    assert len(reduction.anchor) == total + int(layout.structural.sum())
    again = Recipe.from_dict(json.loads(json.dumps(mine.to_dict()))).reduce(tokens, total)
    check_same(again.anchor, reduction.anchor, "anchors")
    check_same(again.assign, reduction.assign, "assignments")


@given(layout=layouts(), data=st.data())
def test_even_gives_each_unit_its_part_rounded_up_or_down(layout, data):
    candidates = layout.candidates
    total = data.draw(st.integers(0, sum(candidates)))
    for count, own in zip(Even().allocate(item(exact_rows(len(layout)), layout), total), candidates, strict=True):
        part = Fraction(total * own, max(1, sum(candidates)))
        assert floor(part) <= count <= ceil(part)


@pytest.mark.parametrize("stage", [s for s in INPUTS if isinstance(s, Resizer)], ids=lambda stage: stage.name)
@given(grid=st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)), part=st.floats(0.01, 1))
def test_an_input_stage_aims_at_no_more_than_it_may(stage, grid, part):
    frames, height, width = grid
    count = max(frames, int(part * frames * height * width))
    h, w = stage.target(grid, count)
    assert 1 <= h <= height
    assert 1 <= w <= width
    assert frames * h * w <= count


@pytest.mark.parametrize("stage", [s for s in INPUTS if isinstance(s, FrameSelector)], ids=lambda stage: stage.name)
@pytest.mark.parametrize("frames", [2, 3, 4, 5, 7, 8, 16, 33])
@pytest.mark.parametrize("kind", ["noise", "constant", "NaN", "one of its own"])
def test_a_frame_selector_chooses_exactly_so_many(stage, frames, kind):
    shown = torch.rand(frames, 2, 3, 8, 8, generator=torch.Generator().manual_seed(frames))
    if kind != "noise":
        shown = shown[:1].repeat(frames, 1, 1, 1, 1)
    if kind == "NaN":
        shown[frames // 2] = torch.nan
    if kind == "one of its own":
        shown[frames // 2] = 1 - shown[frames // 2]
    for k in range(1, frames):
        chosen = stage.choose(shown, k)
        check_chosen(chosen, frames)
        assert len(chosen) == k
        assert torch.equal(stage.choose(shown.bfloat16().float(), k), stage.choose(shown.bfloat16(), k))
        if kind == "one of its own" and k > 1:
            assert frames // 2 in chosen


def test_stages_say_what_they_are():
    for name in STAGES:
        stage = STAGES.get(name)
        # Rates are learnt for a tower: there are none to start from.
        own = DiffRate(12, (9,), (6,)) if stage is DiffRate else stage()
        assert name == f"{stage.kind}/{stage.name}" == own.label
        assert stage.__doc__
        assert stage.signal
        assert set(own.cues) <= {*adapters.cues.NAMES, "question", "frames"}
        assert not stage.adaptive or stage.kind != "allocate"


@given(total=st.integers(1, 40), data=st.data())
def test_stride_takes_the_middle_of_each_stretch(total, data):
    k = data.draw(st.integers(1, total))
    want = [floor((i + Fraction(1, 2)) * Fraction(total, k)) for i in range(k)]
    assert Stride().select(item(exact_rows(total)), torch.arange(total), k, seed=0).tolist() == want


def test_cls_takes_the_most_attended_and_the_lower_of_equals():
    tokens = replace(item(exact_rows(6)), cues={"attention": torch.tensor([0.1, 0.5, 0.2, 0.5, torch.nan, 0.2])})
    pools = {1: [1], 2: [1, 3], 3: [1, 2, 3], 4: [1, 2, 3, 5], 5: [0, 1, 2, 3, 5]}
    for k, want in pools.items():
        assert Cls().select(tokens, torch.arange(6), k, seed=0).tolist() == want
    assert Cls().select(tokens, torch.tensor([0, 2, 5]), 1, seed=0).tolist() == [2]


def test_random_draws_by_seed_alone_and_covers_all():
    tokens = item(exact_rows(30))
    draws = [tuple(Random().select(tokens, torch.arange(30), 6, seed=s).tolist()) for s in range(60)]
    assert len(set(draws)) > 55
    assert {place for draw in draws for place in draw} == set(range(30))
    other = item(exact_rows(30, seed=9), seed=9)
    assert tuple(Random().select(other, torch.arange(30), 6, seed=3).tolist()) == draws[3]


def test_a_seeded_recipe_draws_by_seed_and_content():
    mine = Recipe((Random(),), keep=5)
    tokens = item(exact_rows(30))
    first = mine.reduce(tokens, 5).anchor.tolist()
    assert mine.reduce(tokens, 5).anchor.tolist() == first
    assert replace(mine, seed=1).reduce(tokens, 5).anchor.tolist() != first
    assert mine.reduce(replace(tokens, key=1), 5).anchor.tolist() != first


def test_kcenter_covers_every_cluster():
    rows = torch.eye(5).repeat_interleave(6, dim=0) + 0.01 * exact_rows(30, 5)
    chosen = KCenter().select(item(rows), torch.arange(30), 5, seed=0)
    assert sorted(place // 6 for place in chosen.tolist()) == [0, 1, 2, 3, 4]


@given(grid=st.tuples(st.integers(1, 30), st.integers(1, 30)), count=st.integers(1, 900))
def test_resize_comes_as_near_as_any_grid(grid, count):
    """No grid that fits is both fuller and nearer in shape."""
    height, width = grid
    h, w = Resize().target((1, height, width), count)

    def off(y: int, x: int) -> float:
        return (
            abs(Fraction(y * width, x * height) - 1)
            if y * width >= x * height
            else abs(Fraction(x * height, y * width) - 1)
        )

    for y in range(1, height + 1):
        for x in range(1, width + 1):
            if y * x <= count:
                assert not (y * x > h * w and off(y, x) < off(h, w))


@given(grid=st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_resize_to_all_is_the_grid_itself(grid):
    assert Resize().target((1, *grid), grid[0] * grid[1]) == grid
