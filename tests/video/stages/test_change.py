"""What holds of all selectors that compare frames: counts, odd values, layouts; and parity with serving engines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.stages.videos import (
    FRAMES,
    REFERENCE,
    SHARES,
    SIDES,
    check_kept,
    choose,
    of_rows,
    random_video,
    with_newlines,
)
from vtc.core.tokens import FRAMES as PIXELS
from vtc.core.tokens import VisualTokens
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe
from vtc.stages import Even, Joint, KCenter
from vtc.video.stages import (
    EVS,
    ClipBudget,
    DyCoke,
    VidCom2,
    before,
)

SELECTORS = [EVS(), EVS(engine=True), VidCom2(), DyCoke()]
selectors = pytest.mark.parametrize("selector", SELECTORS, ids=str)
cases = pytest.mark.parametrize("case", ["s1", "s2"])
pruned = pytest.mark.parametrize("q", [0.5, 0.75, 0.9])


def half_up(share: float, total: int) -> int:
    return max(1, int(share * total + 0.5))


@cases
@pruned
@pytest.mark.parametrize(("selector", "name"), [(EVS(engine=True), "evs"), (VidCom2(engine=True), "vidcom2")], ids=str)
def test_as_engines_choose_and_count(selector, name, case, q):
    tokens = of_rows(REFERENCE[f"{case}/x"], (6, 8))
    wanted = np.flatnonzero(REFERENCE[f"{case}/{name}_q{q}"])
    keep = round(1 - q, 3)
    made = Recipe((Joint(), selector), keep=keep)
    assert made.count(tokens.layout) == len(wanted)
    assert made.reduce(tokens, len(wanted)).anchor.tolist() == wanted.tolist()
    plain = Recipe((Joint(), replace(selector, engine=False)), keep=keep)
    assert plain.count(tokens.layout) == half_up(keep, 768)


def test_engines_count_with_the_rounding_of_their_own():
    tokens = of_rows(np.zeros((10, 100, 2), np.float32))
    # 1 - 0.9 is a little less than 0.1: int(1,000 x 0.0999...) is 99; the first frame alone is 100.
    assert VidCom2(engine=True).count(tokens.layout, 0.1) == 99
    assert EVS(engine=True).count(tokens.layout, 0.1) == 100
    assert EVS(engine=True).count(tokens.layout, 0.01) == 100
    assert VidCom2(engine=True).count(tokens.layout, 0.001) == 10
    assert EVS(engine=True).count(tokens.layout, 300) == 300
    assert EVS(engine=True).count(tokens.layout, 5) == VidCom2(engine=True).count(tokens.layout, 5) == 5  # a ceiling
    assert EVS(engine=True).count(tokens.layout, 1.0) == 1000
    image = of_rows(np.zeros((1, 100, 2), np.float32), kind="image")
    assert all(made.count(image.layout, 0.1) is None for made in (EVS(engine=True), VidCom2(engine=True)))


@selectors
@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("side", SIDES)
def test_exact_counts_at_every_size(selector, frames, side):
    tokens = random_video(frames, side)
    pool = torch.arange(frames * side**2)
    for share in SHARES:
        k = half_up(share, len(pool))
        check_kept(choose(selector, tokens, k), pool, k)


@selectors
def test_odd_values_are_still_exact(selector):
    plain = random_video(5, 4)
    spoilt = plain.features.clone()
    spoilt[::7] = torch.nan
    spoilt[3] = torch.inf
    for rows in (torch.zeros_like(spoilt), torch.ones_like(spoilt), spoilt, plain.features.expand(-1, 12)[:, :1]):
        tokens = replace(plain, features=rows)
        for k in (1, 2, 5, 40, 79, 80):
            check_kept(choose(selector, tokens, k), torch.arange(80), k)


@selectors
@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
def test_a_row_that_is_no_number_counts_as_zeros_and_touches_no_other(selector, value):
    plain = random_video(6, 5)
    rows = plain.features.clone()
    rows[40] = 0.0
    wanted = choose(selector, replace(plain, features=rows), 60).tolist()
    rows[40] = value
    assert choose(selector, replace(plain, features=rows), 60).tolist() == wanted


@selectors
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_dtypes_choose_alike(selector, dtype):
    tokens = random_video(6, 5)
    for k in (6, 30, 75):
        assert (
            choose(selector, tokens, k).tolist()
            == choose(selector, replace(tokens, features=tokens.features.to(dtype)), k).tolist()
        )


@selectors
def test_the_order_of_channels_does_not_matter(selector):
    tokens = random_video(6, 5)
    turned = replace(
        tokens, features=tokens.features[:, torch.randperm(12, generator=torch.Generator().manual_seed(1))]
    )
    assert choose(selector, tokens, 40).tolist() == choose(selector, turned, 40).tolist()


@selectors
def test_structural_tokens_are_no_frame_and_missing_cells_no_crash(selector):
    tokens = random_video(6, 5)
    lined = with_newlines(tokens)
    assert choose(selector, tokens, 40).tolist() == choose(selector, lined, 40).tolist()
    left = torch.arange(0, 150)[torch.arange(150) % 4 != 1]
    part = VisualTokens(tokens.features[left], tokens.layout.take(left))
    check_kept(choose(selector, part, 30), torch.arange(len(left)), 30)


@selectors
def test_what_is_no_video_is_chosen_from_as_kcenter_does(selector):
    tokens = random_video(3, 5)
    image = replace(tokens, layout=replace(tokens.layout, kinds=("tile",) * 3))
    assert choose(selector, image, 20).tolist() == choose(KCenter(), image, 20).tolist()


@selectors
def test_recipes_of_videos_say_so_and_travel(selector, tmp_path):
    made = Recipe((Joint(), selector))
    assert made.is_video_recipe
    made.save(tmp_path / "r.json")
    assert Recipe.load(tmp_path / "r.json") == made


@selectors
def test_nothing_is_left_behind_by_a_call(selector):
    videos = [random_video(frames, 4, seed=frames) for frames in (5, 1, 8, 3)]
    alone = [choose(replace(selector), video, len(video) // 3).tolist() for video in videos]
    assert [choose(selector, video, len(video) // 3).tolist() for video in videos] == alone
    assert [choose(selector, video, len(video) // 3).tolist() for video in reversed(videos)] == alone[::-1]


@selectors
@pytest.mark.parametrize("allocator", [Even(), ClipBudget(), ClipBudget(together=False)], ids=str)
def test_other_allocators_are_exact_too(selector, allocator):
    tokens = random_video(8, 5)
    pixels = torch.rand(8, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pixels[4:] += 2.0
    tokens = replace(tokens, cues={PIXELS: pixels})
    for k in (8, 50, 120):
        check_kept(Recipe((allocator, selector)).reduce(tokens, k).anchor, torch.arange(200), k)


@given(frames=st.integers(1, 6), height=st.integers(1, 3), width=st.integers(1, 3), data=st.data())
def test_before_is_the_same_cell_one_frame_earlier(frames, height, width, data):
    tokens = of_rows(torch.zeros(frames, height * width, 1), (height, width))
    left = sorted(data.draw(st.sets(st.integers(0, frames * height * width - 1), min_size=1)))
    layout = tokens.layout.take(torch.tensor(left))
    each = height * width
    wanted = [left.index(i - each) if i - each in left else -1 for i in left]
    assert before(layout).tolist() == wanted


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: EVS(floor=-1), ValueError),
        (lambda: EVS(floor=1.0), TypeError),
        (lambda: VidCom2(temperature=0), ValueError),
        (lambda: VidCom2(temperature="1"), TypeError),
        (lambda: DyCoke(similar=2), ValueError),
    ],
)
def test_bad_parameters_are_refused(make, error):
    with pytest.raises(error):
        make()


def test_the_named_recipes():
    tokens = random_video(8, 6)
    for name in ("evs", "evs-vllm", "vidcom2", "dycoke"):
        made = recipe(name, keep=0.2)
        total = made.count(tokens.layout)
        assert total == (57 if name == "evs-vllm" else 58)  # of 288
        check_kept(made.reduce(tokens, total).anchor, torch.arange(288), total)
        assert not made.adaptive
