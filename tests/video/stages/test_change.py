"""Selectors that compare frames: parity with released code, exact counts, and each upstream defect beside its mend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.stages.films import FRAMES, SHARES, SIDES, check_kept, of_rows, per_frame, random_film, with_newlines
from vtc.recipes import Recipe, recipe
from vtc.stages import KCenter, Whole
from vtc.tokens import VisualTokens
from vtc.video.stages import EVS, DyCoke, VidCom2, before

REFERENCE = dict(np.load(Path(__file__).parents[2] / "data" / "reference_films.npz"))
SELECTORS = [EVS(), EVS(engine=True), VidCom2(), DyCoke()]
selectors = pytest.mark.parametrize("selector", SELECTORS, ids=str)
cases = pytest.mark.parametrize("case", ["s1", "s2"])
pruned = pytest.mark.parametrize("q", [0.5, 0.75, 0.9])


def choose(selector, tokens: VisualTokens, k: int) -> torch.Tensor:
    return selector.select(tokens, torch.nonzero(~tokens.layout.structural).flatten(), k, seed=0)


def half_up(share: float, total: int) -> int:
    return max(1, int(share * total + 0.5))


# Parity


@cases
@pruned
@pytest.mark.parametrize(("selector", "name"), [(EVS(engine=True), "evs"), (VidCom2(engine=True), "vidcom2")], ids=str)
def test_as_engines_choose_and_count(selector, name, case, q):
    tokens = of_rows(REFERENCE[f"{case}/x"], (6, 8))
    wanted = np.flatnonzero(REFERENCE[f"{case}/{name}_q{q}"])
    keep = round(1 - q, 3)
    made = Recipe((Whole(), selector), keep=keep)
    assert made.count(tokens.layout) == len(wanted)
    assert made.reduce(tokens, len(wanted)).anchor.tolist() == wanted.tolist()
    plain = Recipe((Whole(), replace(selector, engine=False)), keep=keep)
    assert plain.count(tokens.layout) == half_up(keep, 768)


@cases
def test_as_the_released_dycoke(case):
    tokens = of_rows(REFERENCE[f"{case}/dycoke_x"])
    made = Recipe((Whole(), DyCoke(released=True)), keep=0.3)
    wanted = REFERENCE[f"{case}/dycoke_out"]
    assert made.count(tokens.layout) == len(wanted)
    kept = made.reduce(tokens, len(wanted)).apply(tokens.features).numpy()
    assert sorted(row.tobytes() for row in kept) == sorted(row.tobytes() for row in wanted)
    # The mended rule has another count of its own only where the last group differs, and other tokens with it.
    mended = choose(DyCoke(), tokens, len(wanted))
    assert sorted(row.tobytes() for row in tokens.features[mended].numpy()) != sorted(row.tobytes() for row in wanted)


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
    picture = of_rows(np.zeros((1, 100, 2), np.float32), kind="image")
    assert all(made.count(picture.layout, 0.1) is None for made in (EVS(engine=True), VidCom2(engine=True)))


# What holds of all


@selectors
@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("side", SIDES)
def test_exact_counts_at_every_size(selector, frames, side):
    tokens = random_film(frames, side)
    pool = torch.arange(frames * side**2)
    for share in SHARES:
        k = half_up(share, len(pool))
        check_kept(choose(selector, tokens, k), pool, k)


@selectors
def test_odd_values_are_still_exact(selector):
    plain = random_film(5, 4)
    spoilt = plain.features.clone()
    spoilt[::7] = torch.nan
    spoilt[3] = torch.inf
    for rows in (torch.zeros_like(spoilt), torch.ones_like(spoilt), spoilt, plain.features.expand(-1, 12)[:, :1]):
        tokens = replace(plain, features=rows)
        for k in (1, 2, 5, 40, 79, 80):
            check_kept(choose(selector, tokens, k), torch.arange(80), k)


@selectors
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_dtypes_choose_alike(selector, dtype):
    tokens = random_film(6, 5)
    for k in (6, 30, 75):
        assert (
            choose(selector, tokens, k).tolist()
            == choose(selector, replace(tokens, features=tokens.features.to(dtype)), k).tolist()
        )


@selectors
def test_the_order_of_channels_does_not_matter(selector):
    tokens = random_film(6, 5)
    turned = replace(
        tokens, features=tokens.features[:, torch.randperm(12, generator=torch.Generator().manual_seed(1))]
    )
    assert choose(selector, tokens, 40).tolist() == choose(selector, turned, 40).tolist()


@selectors
def test_structural_tokens_are_no_frame_and_missing_cells_no_crash(selector):
    tokens = random_film(6, 5)
    lined = with_newlines(tokens)
    assert choose(selector, tokens, 40).tolist() == choose(selector, lined, 40).tolist()
    left = torch.arange(0, 150)[torch.arange(150) % 4 != 1]
    part = VisualTokens(tokens.features[left], tokens.layout.take(left))
    check_kept(choose(selector, part, 30), torch.arange(len(left)), 30)


@selectors
def test_what_is_no_video_is_chosen_from_as_kcenter_does(selector):
    tokens = random_film(3, 5)
    picture = replace(tokens, layout=replace(tokens.layout, kinds=("tile",) * 3))
    assert choose(selector, picture, 20).tolist() == choose(KCenter(), picture, 20).tolist()


@selectors
def test_recipes_of_films_say_so_and_travel(selector, tmp_path):
    made = Recipe((Whole(), selector))
    assert made.of_films
    made.save(tmp_path / "r.json")
    assert Recipe.load(tmp_path / "r.json") == made


@given(frames=st.integers(1, 6), height=st.integers(1, 3), width=st.integers(1, 3), data=st.data())
def test_before_is_the_same_cell_one_frame_earlier(frames, height, width, data):
    tokens = of_rows(torch.zeros(frames, height * width, 1), (height, width))
    left = sorted(data.draw(st.sets(st.integers(0, frames * height * width - 1), min_size=1)))
    layout = tokens.layout.take(torch.tensor(left))
    each = height * width
    wanted = [left.index(i - each) if i - each in left else -1 for i in left]
    assert before(layout).tolist() == wanted


# Rules


def evs_by_hand(rows, k, floor=1):
    """The mended rule in plain loops."""
    frames, count = rows.shape[:2]
    unit = rows / rows.norm(dim=2, keepdim=True)
    score = torch.full((frames, count), torch.inf)
    for t in range(1, frames):
        for i in range(count):
            score[t, i] = round(1 - float(unit[t, i] @ unit[t - 1, i]), 6)
    if frames > 1:
        whole = min(count, max(k // 2, k - (frames - 1) * count))
        mean = unit[0].mean(dim=0)
        far = [round(1 - float(unit[0, i] @ mean / mean.norm()), 6) for i in range(count)]
        first = sorted(range(count), key=lambda i: (-far[i], i))[:whole]
        score[0] = torch.tensor([torch.inf if i in first else -1.0 for i in range(count)])
    order = sorted(((t, i) for t in range(frames) for i in range(count)), key=lambda at: (-float(score[at]), at))
    due = [at for t in range(frames) for at in [a for a in order if a[0] == t][:floor]]
    if len(due) > k:
        due = []
    rest = [at for at in order if at not in due]
    return sorted(t * count + i for t, i in (due + rest)[:k])


@given(frames=st.integers(1, 6), side=st.integers(1, 3), seed=st.integers(0, 50), data=st.data())
def test_evs_follows_its_rule(frames, side, seed, data):
    tokens = random_film(frames, side, seed=seed)
    k = data.draw(st.integers(1, frames * side**2))
    floor = data.draw(st.integers(0, 3))
    kept = choose(EVS(floor=floor), tokens, k).tolist()
    assert kept == evs_by_hand(tokens.features.unflatten(0, (frames, -1)), k, floor)


def test_evs_starves_frames_and_ours_does_not():
    still = of_rows(torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0)).repeat(8, 1, 1))
    assert per_frame(still, choose(EVS(engine=True), still, 32)) == [16, 16, 0, 0, 0, 0, 0, 0]
    assert min(per_frame(still, choose(EVS(), still, 32))) >= 1
    # A budget of one frame: upstream the first takes it all.
    moving = of_rows(torch.randn(8, 16, 8, generator=torch.Generator().manual_seed(0)))
    assert per_frame(moving, choose(EVS(engine=True), moving, 16)) == [16, 0, 0, 0, 0, 0, 0, 0]
    counts = per_frame(moving, choose(EVS(), moving, 16))
    assert counts[0] == 8
    assert min(counts) >= 1


@given(frames=st.integers(1, 9), side=st.integers(1, 4), floor=st.integers(0, 4), data=st.data())
def test_every_frame_has_its_floor_where_there_is_room(frames, side, floor, data):
    tokens = random_film(frames, side, still=0.95)
    k = data.draw(st.integers(1, frames * side**2))
    least = min(floor, side**2)
    counts = per_frame(tokens, choose(EVS(floor=floor), tokens, k))
    assert least * frames > k or min(counts) >= least


def vidcom2_by_hand(rows, share):
    """The authors' rule, with their inexact count: which tokens of each frame, and how redundant every one is."""
    frames, count, width = rows.shape
    steady = rows.flatten(0, 1).var(dim=0).argsort()[: max(1, width // 2)]
    rows = torch.nn.functional.normalize(rows[:, :, steady], dim=2)

    def near(a, b):
        return sum(torch.exp(-((a - b) ** 2).sum() / (2 * w)) for w in (1 / 8, 1 / 4, 1 / 2, 1, 2))

    video, own = rows.flatten(0, 1).mean(dim=0), rows.mean(dim=1)
    far = torch.tensor([-sum(near(rows[t, i], video) for i in range(count)) / count for t in range(frames)])
    p = torch.softmax((far - far.max()) / 0.01, dim=0)
    redundant = torch.tensor(
        [[near(rows[t, i], video) + near(rows[t, i], own[t]) for i in range(count)] for t in range(frames)]
    )
    due = [max(1, round(min(1.0, share * float(1 + p[t] - p.mean())) * count)) for t in range(frames)]
    kept = [t * count + i for t in range(frames) for i in redundant[t].argsort(stable=True)[: due[t]].tolist()]
    return sorted(kept), redundant.flatten()


@pytest.mark.parametrize("seed", range(6))
def test_vidcom2_is_the_authors_rule_made_exact(seed):
    rows = torch.randn(6, 16, 10, generator=torch.Generator().manual_seed(seed)) + torch.randn(6, 1, 10)
    tokens = of_rows(rows)
    off = []
    for k in (10, 24, 31, 48, 70):
        theirs, redundant = vidcom2_by_hand(rows, k / 96)
        off.append(len(theirs) - k)
        ours = choose(VidCom2(), tokens, k).tolist()
        assert len(ours) == k
        # What differs is the least or the most redundant of what they kept or did not.
        if len(theirs) > k:
            assert set(ours) < set(theirs)
            assert redundant[[i for i in theirs if i not in ours]].min() >= redundant[ours].max() - 1e-5
        else:
            assert set(ours) >= set(theirs)
    assert any(off)  # the defect: their count is another


def dycoke_crashes(frames: int) -> bool:
    """The released loop over groups stacks nothing for four frames or fewer."""
    return not range(0, frames - 4, 4)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 7, 16])
def test_dycoke_takes_any_number_of_frames_and_keeps_their_order(frames):
    tokens = random_film(frames, 4, still=0.3)
    for k in range(1, frames * 16 + 1, 7):
        kept = choose(DyCoke(), tokens, k)
        check_kept(kept, torch.arange(frames * 16), k)
    if dycoke_crashes(frames):
        with pytest.raises(ValueError, match="more than 4"):
            DyCoke(released=True).count(tokens.layout, 0.5)
    elif frames % 2:
        released = DyCoke(released=True)
        kept = choose(released, tokens, released.count(tokens.layout, 0.5))
        assert per_frame(tokens, kept)[-1] == 0  # the defect
        assert min(per_frame(tokens, choose(DyCoke(), tokens, frames * 8))) > 0


def test_dycoke_treats_every_group_alike_and_goes_below_a_quarter():
    tokens = random_film(16, 10, still=0.3)
    released = DyCoke(released=True)
    theirs = per_frame(tokens, choose(released, tokens, released.count(tokens.layout, 0.5)))
    assert theirs == [100, 30, 30, 30] * 3 + [100, 30, 100, 30]
    assert released.count(tokens.layout, 0.05) == sum(theirs)  # whatever is asked for
    ours = per_frame(tokens, choose(DyCoke(), tokens, 4 * 190))
    assert ours == [100, 30, 30, 30] * 4
    assert per_frame(tokens, choose(DyCoke(), tokens, 4 * 38)) == [20, 6, 6, 6] * 4


def test_dycoke_keeps_what_its_reference_does_not_hold():
    tokens = random_film(4, 4, still=0.5)
    unit = torch.nn.functional.normalize(tokens.features, dim=1).unflatten(0, (4, 16))
    kept = choose(DyCoke(), tokens, 16 + 3 * 5)
    assert per_frame(tokens, kept)[0] >= 15
    for t, reference in ((1, 0), (2, 0), (3, 2)):
        like = (unit[t] * unit[reference]).sum(dim=1).round(decimals=6)
        mine = [i - t * 16 for i in kept.tolist() if i // 16 == t]
        assert sorted(mine) == sorted(sorted(range(16), key=lambda i: (float(like[i]), i))[: len(mine)])


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
    tokens = random_film(8, 6)
    for name in ("evs", "evs-vllm", "vidcom2", "dycoke"):
        made = recipe(name, keep=0.2)
        total = made.count(tokens.layout)
        assert total == (57 if name == "evs-vllm" else 58)  # of 288
        check_kept(made.reduce(tokens, total).anchor, torch.arange(288), total)
        assert not made.adaptive
