"""Dense and sparse frames, and budgets by semantic density: against their rules spelt out, with exact counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.core.tokens import Layout, VisualTokens
from vtc.recipes.composition import Recipe
from vtc.stages import Even, KCenter
from vtc.video.stages import (
    FirstOfSegment,
    KeyDensity,
    SemanticDensity,
    describe,
)

SIDE = 4


def video(frames: int, shots: int = 3, side: int = SIDE, seed: int = 0, kind: str = "frame") -> VisualTokens:
    """Shots of noise; a frame repeats the one before, but where a shot begins."""
    generator = torch.Generator().manual_seed(seed)
    looks = torch.rand(shots, 3, 16, 16, generator=generator)
    rows = torch.randn(shots, side * side, 12, generator=generator)
    shot = torch.arange(frames) * shots // frames
    pixels = looks[shot][:, None]
    layout = Layout.join([Layout.of_grid(side, side, kind=kind)] * frames)
    return VisualTokens(rows[shot].flatten(0, 1), layout, {"frames": pixels})


def per_frame(recipe: Recipe, tokens: VisualTokens, total: int) -> list[int]:
    kept = recipe.reduce(tokens, total).anchor
    return torch.bincount(tokens.layout.unit[kept], minlength=len(tokens.layout.grids)).tolist()


@pytest.mark.parametrize("stage", [KeyDensity(), FirstOfSegment()], ids=lambda stage: stage.name)
@given(frames=st.integers(1, 20), shots=st.integers(1, 5), data=st.data())
def test_counts_are_exact_and_dense_frames_have_their_lead(stage, frames, shots, data):
    tokens = video(frames, shots)
    total = data.draw(st.integers(1, frames * SIDE**2))
    counts = stage.allocate(tokens, total)
    assert sum(counts) == total
    assert all(0 <= count <= SIDE**2 for count in counts)
    dense = stage.dense(describe(tokens.cue("frames")))
    assert dense[0] == 0
    weights = [stage.lead if i in dense else 1.0 for i in range(frames)]
    share = total / sum(weights)
    if stage.lead * share <= SIDE**2:  # nobody is full
        assert all(abs(count - weight * share) < 1 for count, weight in zip(counts, weights, strict=True))


def test_key_frames_are_where_the_image_changes():
    tokens = video(12, shots=3)
    assert KeyDensity().dense(describe(tokens.cue("frames"))).tolist() == [0, 4, 8]
    assert KeyDensity(keys=0).dense(describe(tokens.cue("frames"))).tolist() == [0]
    counts = KeyDensity(lead=5).allocate(tokens, 24)
    assert counts == [5, 1, 1, 1] * 3
    assert KeyDensity(lead=1).allocate(tokens, 24) == [2] * 12


def test_a_still_video_has_one_key_frame():
    tokens = video(8, shots=1)
    assert KeyDensity(keys=1).dense(describe(tokens.cue("frames"))).tolist() == [0]
    assert FirstOfSegment().dense(describe(tokens.cue("frames"))).tolist() == [0]
    # A stretch of eight frames at most follows one dense frame.
    assert FirstOfSegment().dense(describe(video(20, shots=1).cue("frames"))).tolist() == [0, 8, 16]


def test_a_short_video_is_condensed_too():
    tokens = video(16, shots=16)
    dense = FirstOfSegment().dense(describe(tokens.cue("frames")))
    # 24 cuts in 64 frames are 6 in 16, and 7 segments. Upstream's 24 in any window make every frame a segment.
    assert len(dense) == 7
    assert len(FirstOfSegment(cuts=64).dense(describe(tokens.cue("frames")))) == 16


@given(frames=st.integers(1, 17), size=st.integers(1, 6), data=st.data())
def test_semantic_density_is_exact_and_follows_its_rule(frames, size, data):
    tokens = video(frames, shots=data.draw(st.integers(1, 5)))
    total = data.draw(st.integers(1, frames * SIDE**2))
    stage = SemanticDensity(frames=size)
    pools = stage.pools(tokens, total)
    assert torch.cat([pool for pool, _ in pools]).tolist() == list(range(frames * SIDE**2))
    assert sum(count for _, count in pools) == total
    assert [len(pool) for pool, _ in pools] == [SIDE**2 * min(size, frames - a) for a in range(0, frames, size)]
    rows = torch.nn.functional.normalize(tokens.features.double(), dim=1)
    rows = torch.nn.functional.normalize(rows - rows.mean(dim=0), dim=1)
    wanted = [len(p) * (1 + float((1 - rows[p] @ rows[p].T).mean().clamp(0, 1))) ** 4 for p, _ in pools]
    _, weights = stage.weighed(tokens)
    assert weights == pytest.approx(wanted, rel=1e-3)


def test_a_rich_clip_gets_more():
    tokens = video(8, shots=2)
    plain = tokens.features.clone()
    plain[: 4 * SIDE**2] = plain[0]  # the first clip shows one and the same thing
    tokens = replace(tokens, features=plain)
    first, second = (count for _, count in SemanticDensity().pools(tokens, 32))
    assert second > 4 * first
    assert [count for _, count in SemanticDensity(exponent=0).pools(tokens, 32)] == [16, 16]


@pytest.mark.parametrize("stage", [KeyDensity(), FirstOfSegment(), SemanticDensity()], ids=lambda stage: stage.name)
def test_what_is_no_video_is_shared_evenly(stage):
    tokens = video(4, kind="tile")
    recipe, even = (Recipe((s, KCenter())) for s in (stage, Even()))
    assert per_frame(recipe, tokens, 13) == per_frame(even, tokens, 13)


@pytest.mark.parametrize("stage", [KeyDensity(), FirstOfSegment(), SemanticDensity()], ids=lambda stage: stage.name)
def test_numbers_that_are_none_and_dtypes_change_nothing(stage):
    tokens = video(9)
    recipe = Recipe((stage, KCenter()))
    counts = per_frame(recipe, tokens, 40)
    exact = tokens.features.bfloat16()
    ways = [
        recipe.reduce(replace(tokens, features=exact.to(d)), 40).anchor.tolist() for d in (torch.float32, exact.dtype)
    ]
    assert ways[0] == ways[1]
    spoilt = tokens.features.clone()
    spoilt[3] = torch.nan
    assert sum(per_frame(recipe, replace(tokens, features=spoilt), 40)) == sum(counts) == 40


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: KeyDensity(keys=1.5), ValueError),
        (lambda: KeyDensity(lead=0.5), ValueError),
        (lambda: KeyDensity(lead="9"), TypeError),
        (lambda: FirstOfSegment(cuts=0), ValueError),
        (lambda: FirstOfSegment(stretch=True), TypeError),
        (lambda: SemanticDensity(frames=0), ValueError),
        (lambda: SemanticDensity(exponent=-1), ValueError),
    ],
)
def test_bad_parameters_are_refused(make, error):
    with pytest.raises(error):
        make()


def test_whole_numbers_are_taken_and_travel_in_recipe_files(tmp_path):
    recipe = Recipe((KeyDensity(lead=4), KCenter()))
    recipe.save(tmp_path / "r.json")
    assert Recipe.load(tmp_path / "r.json") == recipe
    assert isinstance(KeyDensity(lead=np.float64(4)).lead, float)
