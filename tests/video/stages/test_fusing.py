"""What folds tokens along time, into centres and into codes: rules, exact counts, each upstream defect mended."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.stages.videos import (
    SHARES,
    check_kept,
    of_rows,
    per_frame,
    random_video,
    with_newlines,
)
from vtc.core.tokens import Reduction, VisualTokens
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe
from vtc.stages import Joint, KCenter, Mean
from vtc.video.stages import (
    AdaptiveCodebook,
    AlongTime,
    Codebook,
    CodebookMean,
    FastVID,
    FastVIDMean,
    FrameFusion,
    StrongApart,
)
from vtc.video.stages.codebook import codes
from vtc.video.stages.density_peaks import density_peaks

PAIRS = [
    (FrameFusion(), AlongTime()),
    (FastVID(), FastVIDMean()),
    (Codebook(), CodebookMean()),
    (StrongApart(), Mean(least=0.8)),
]
pairs = pytest.mark.parametrize(("selector", "merger"), PAIRS, ids=lambda stage: stage.name)


def seen(tokens: VisualTokens, seed: int = 0) -> VisualTokens:
    """With an attention cue of few values."""
    draws = torch.randint(0, 7, (len(tokens),), generator=torch.Generator().manual_seed(seed))
    return replace(tokens, cues={"attention": draws / 8})


def video(frames: int, side: int, seed: int = 0, still: float = 0.6) -> VisualTokens:
    return seen(random_video(frames, side, seed=seed, still=still), seed)


def pool_of(tokens: VisualTokens) -> torch.Tensor:
    return torch.nonzero(~tokens.layout.structural).flatten()


def fused(selector, merger, tokens: VisualTokens, k: int) -> Reduction:
    return Recipe((Joint(), selector, merger)).reduce(tokens, k)


# What holds of all


@pairs
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8, 16])
@pytest.mark.parametrize("side", [1, 2, 7])
def test_exact_counts_at_every_size(selector, merger, frames, side):
    tokens = video(frames, side)
    pool = pool_of(tokens)
    for share in SHARES:
        k = max(1, int(share * len(pool) + 0.5))
        reduction = fused(selector, merger, tokens, k)
        check_kept(reduction.anchor, pool, k)
        assert reduction.assign[reduction.anchor].tolist() == list(range(k))
        assert bool((reduction.weight >= 0).all())
        assert bool(reduction.apply(tokens.features).isfinite().all())


@pairs
def test_odd_values_are_still_exact(selector, merger):
    plain = video(5, 4)
    spoilt = plain.features.clone()
    spoilt[::7] = torch.nan
    spoilt[3] = torch.inf
    for rows in (torch.zeros_like(spoilt), torch.ones_like(spoilt), spoilt, plain.features[:, :1]):
        tokens = replace(plain, features=rows)
        for k in (1, 2, 5, 40, 79, 80):
            check_kept(fused(selector, merger, tokens, k).anchor, torch.arange(80), k)


@pairs
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_dtypes_fold_alike(selector, merger, dtype):
    tokens = video(6, 5)
    for k in (6, 30, 75):
        full = fused(selector, merger, tokens, k)
        half = fused(selector, merger, replace(tokens, features=tokens.features.to(dtype)), k)
        assert full.anchor.tolist() == half.anchor.tolist()
        assert full.assign.tolist() == half.assign.tolist()


@pairs
def test_structural_tokens_take_no_part_and_missing_cells_are_no_crash(selector, merger):
    tokens = video(6, 5)
    lined = with_newlines(tokens)
    lined = replace(lined, cues={"attention": torch.cat([tokens.cues["attention"], torch.ones(1)])})
    plain, other = (fused(selector, merger, some, 40) for some in (tokens, lined))
    assert other.anchor.tolist() == [*plain.anchor.tolist(), 150]
    assert other.assign.tolist() == [*plain.assign.tolist(), 40]
    left = torch.arange(150)[torch.arange(150) % 4 != 1]
    part = VisualTokens(tokens.features[left], tokens.layout.take(left), {"attention": tokens.cues["attention"][left]})
    check_kept(fused(selector, merger, part, 30).anchor, torch.arange(len(left)), 30)


@pytest.mark.parametrize(("selector", "merger"), PAIRS[:3], ids=lambda stage: stage.name)
def test_what_is_no_video_is_chosen_from_as_kcenter_does_and_folds_into_no_other_unit(selector, merger):
    tokens = video(3, 5)
    image = replace(tokens, layout=replace(tokens.layout, kinds=("tile",) * 3))
    reduction = fused(selector, merger, image, 20)
    assert reduction.anchor.tolist() == KCenter().select(image, torch.arange(75), 20, seed=0).tolist()
    joined = torch.nonzero(reduction.assign >= 0).flatten()
    unit = tokens.layout.unit
    assert torch.equal(unit[joined], unit[reduction.anchor[reduction.assign[joined]]])


def test_the_named_recipes_are_of_videos_and_travel(tmp_path):
    for name in ("framefusion", "fastvid", "vqtoken", "vqtoken-adaptive", "dcode"):
        made = recipe(name)
        assert made.is_video_recipe
        assert made.adaptive == (name == "vqtoken-adaptive")
        made.save(tmp_path / "r.json")
        assert Recipe.load(tmp_path / "r.json") == made


# FrameFusion


def runs_by_hand(rows, k, similarity):
    """Which tokens start runs, in plain loops; None where pruning has to follow."""
    frames, count = rows.shape[:2]
    unit = torch.nn.functional.normalize(rows, dim=2)
    like = {(t, i): round(float(unit[t, i] @ unit[t - 1, i]), 6) for t in range(1, frames) for i in range(count)}
    joins = sorted((at for at in like if like[at] >= similarity), key=lambda at: (-like[at], at))
    spare = frames * count - k
    if len(joins) < spare:
        return None
    return sorted(t * count + i for t in range(frames) for i in range(count) if (t, i) not in joins[:spare])


@given(frames=st.integers(1, 6), side=st.integers(1, 3), seed=st.integers(0, 40), data=st.data())
def test_framefusion_merges_the_most_similar_first(frames, side, seed, data):
    tokens = random_video(frames, side, seed=seed)
    k = data.draw(st.integers(1, frames * side**2))
    kept = FrameFusion().select(tokens, torch.arange(len(tokens)), k, seed=0)
    wanted = runs_by_hand(tokens.features.unflatten(0, (frames, -1)), k, 0.6)
    if wanted is not None:
        assert kept.tolist() == wanted
    else:
        rows = tokens.features.unflatten(0, (frames, -1))
        starts = next(runs for more in range(k, len(tokens) + 1) if (runs := runs_by_hand(rows, more, 0.6)) is not None)
        check_kept(kept, torch.tensor(starts), k)


@given(frames=st.integers(1, 7), side=st.integers(1, 2), seed=st.integers(0, 40), data=st.data())
def test_a_token_joins_the_last_kept_one_of_its_cell_along_like_links(frames, side, seed, data):
    tokens = random_video(frames, side, seed=seed)
    each = side**2
    anchor = torch.tensor(sorted(data.draw(st.sets(st.integers(0, frames * each - 1), min_size=1))))
    unit = torch.nn.functional.normalize(tokens.features, dim=1)
    place, wanted = {int(a): j for j, a in enumerate(anchor)}, []
    for token in range(frames * each):
        at = token
        while at not in place and at >= each and round(float(unit[at] @ unit[at - each]), 6) >= 0.6:
            at -= each
        wanted.append(place.get(at, -1))
    assert AlongTime().merge(tokens, anchor).assign.tolist() == wanted


def test_a_long_run_is_averaged_over_its_true_length():
    frames = 300
    rows = torch.ones(frames, 1, 4)
    rows[0] = 300.0  # the others repeat it in direction, so that the mean says how many there are
    tokens = of_rows(rows.to(torch.bfloat16), (1, 1))
    mean = fused(FrameFusion(), AlongTime(), tokens, 1).apply(tokens.features.float())[0, 0]
    assert float(mean) == pytest.approx((300 + 299) / 300)
    # The released code holds the length in the hidden dtype, which has no 299.
    assert float(torch.tensor(299.0).to(torch.bfloat16)) == 300.0


# FastVID


def peaks_by_hand(rows, k, neighbours):
    rows = rows.double().numpy()
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2) / rows.shape[1] ** 0.5
    density = [np.exp(-np.mean(np.sort(line)[:neighbours] ** 2)) for line in apart]
    order = sorted(range(len(rows)), key=lambda i: (-density[i], i))
    score = {}
    for place, i in enumerate(order):
        far = apart.max() if not place else min(apart[i, j] for j in order[:place])
        score[i] = density[i] * far
    return score


@given(count=st.integers(1, 14), seed=st.integers(0, 30), data=st.data())
def test_density_peaks_by_the_definition(count, seed, data):
    rows = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))
    k = data.draw(st.integers(1, count))
    found = density_peaks(rows, k).tolist()
    score = peaks_by_hand(rows, k, 4)
    assert len(set(found)) == k
    assert min(score[i] for i in found) >= max([score[i] for i in score if i not in found], default=0) - 1e-5


def test_fastvid_keeps_the_attended_and_folds_the_rest_of_each_segment():
    looks = torch.randn(2, 1, 25, 12, generator=torch.Generator().manual_seed(3))
    noise = 0.05 * torch.randn(8, 25, 12, generator=torch.Generator().manual_seed(4))
    tokens = seen(of_rows(looks.expand(2, 4, 25, 12).flatten(0, 1) + noise))
    selector, merger = FastVID(clips=2), FastVIDMean(clips=2)
    reduction = fused(selector, merger, tokens, 80)
    # Ten a frame: six salient each, and the sixteen context tokens of four frames in the last of them.
    assert per_frame(tokens, reduction.anchor) == [6, 6, 6, 22, 6, 6, 6, 22]
    attention = tokens.cues["attention"].unflatten(0, (8, 25))
    for t in (0, 1, 2, 4, 5, 6):
        mine = [i - 25 * t for i in reduction.anchor.tolist() if i // 25 == t]
        assert sorted(mine) == sorted(sorted(range(25), key=lambda i: (-float(attention[t, i]), i))[:6])
    unit = tokens.layout.unit
    joined = torch.nonzero(reduction.assign >= 0).flatten()
    assert len(joined) == 200
    assert torch.equal(unit[joined] // 4, unit[reduction.anchor[reduction.assign[joined]]] // 4)
    assert torch.isin(
        unit[reduction.anchor[reduction.assign[joined[~torch.isin(joined, reduction.anchor)]]]], torch.tensor([3, 7])
    ).all()


def test_a_centre_keeps_its_weight_against_those_that_join_it():
    tokens = video(6, 4, still=0.2)
    reduction = fused(FastVID(), FastVIDMean(), tokens, 30)
    out = reduction.apply(tokens.features)
    for place, anchor in enumerate(reduction.anchor.tolist()):
        members = [i for i in torch.nonzero(reduction.assign == place).flatten().tolist() if i != anchor]
        own = tokens.features[anchor]
        if members:
            weight = max(0.6, 1 / (len(members) + 1))
            own = weight * own + (1 - weight) * tokens.features[members].mean(dim=0)
        torch.testing.assert_close(out[place], own)


@pytest.mark.parametrize("frames", [1, 2, 6, 7, 8])
def test_fastvid_takes_fewer_frames_than_segments(frames):
    tokens = video(frames, 4)
    transitions = torch.zeros(frames - 1)
    if frames <= 7:  # the released rule takes the 7 lowest of frames - 1 transitions
        with pytest.raises(RuntimeError):
            transitions.topk(7, largest=False)
    check_kept(fused(FastVID(), FastVIDMean(), tokens, frames * 4).anchor, torch.arange(frames * 16), frames * 4)


def test_fastvids_merger_refuses_other_anchors():
    tokens = video(4, 4)
    with pytest.raises(ValueError, match="selector 'fastvid'"):
        FastVIDMean().merge(tokens, torch.arange(10))
    with pytest.raises(ValueError, match="same parameters"):
        fused(FastVID(context=0.0), FastVIDMean(context=1.0), tokens, 20)


# Codebooks


@given(count=st.integers(2, 30), seed=st.integers(0, 40), data=st.data())
def test_means_are_those_of_their_codes_and_none_is_empty(count, seed, data):
    rows = torch.nn.functional.normalize(torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)), dim=1)
    k = data.draw(st.integers(1, count))
    code, means = codes(rows, torch.arange(k))
    assert sorted(set(code.tolist())) == list(range(k))
    for one in range(k):
        mean = rows[code == one].mean(dim=0)
        torch.testing.assert_close(means[one], mean / mean.norm(), atol=1e-4, rtol=1e-4)


def test_kmeans_goes_on_until_nothing_moves():
    # Along a quarter circle, from seeds at one end: the border moves by a few rows in every round.
    angle = torch.linspace(0, 1.5, 60)
    rows = torch.stack([angle.cos(), angle.sin()], dim=1)
    code, means = codes(rows, torch.tensor([0, 1]))
    assert torch.equal((rows @ means.T).argmax(dim=1), code)
    once = (rows @ rows[:2].T).argmax(dim=1)
    first = torch.stack([torch.nn.functional.normalize(rows[once == one].mean(dim=0), dim=0) for one in (0, 1)])
    assert not torch.equal((rows @ first.T).argmax(dim=1), code)


def test_a_codebook_finds_what_there_is():
    kinds = torch.nn.functional.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    which = torch.randint(0, 5, (6, 16), generator=torch.Generator().manual_seed(1))
    rows = kinds[which] + 0.01 * torch.randn(6, 16, 16, generator=torch.Generator().manual_seed(2))
    tokens = of_rows(rows)
    reduction = fused(Codebook(), CodebookMean(), tokens, 5)
    assert sorted(which.flatten()[reduction.anchor].tolist()) == [0, 1, 2, 3, 4]
    same = which.flatten()[reduction.anchor][reduction.assign]
    assert torch.equal(same, which.flatten())
    torch.testing.assert_close(
        reduction.apply(tokens.features), kinds[which.flatten()[reduction.anchor]], atol=0.02, rtol=0
    )


def test_the_adaptive_codebook_is_as_large_as_the_video_asks_for():
    kinds = torch.eye(20)
    sizes = []
    for count in (3, 14, 20):
        tokens = of_rows(kinds[torch.arange(8 * 16) % count].unflatten(0, (8, 16)))
        sizes.append(len(fused(AdaptiveCodebook(least=2), CodebookMean(), tokens, 60)))
        assert len(fused(AdaptiveCodebook(least=2), CodebookMean(), tokens, 2)) == 2  # keep is the ceiling
    assert sizes == [3, 14, 20]
    still = of_rows(torch.ones(8, 16, 4))
    assert len(fused(AdaptiveCodebook(), CodebookMean(), still, 60)) == 12
    assert len(fused(AdaptiveCodebook(least=1), CodebookMean(), still, 60)) == 1
    assert len(fused(AdaptiveCodebook(reach=-1.0, least=1), CodebookMean(), tokens, 60)) == 1


# D-CoDe


def strong_by_hand(features, k, similarity):
    unit = torch.nn.functional.normalize(features, dim=1)
    order = sorted(range(len(features)), key=lambda i: (-float(features[i].norm()), i))
    taken = []
    for i in order:
        if len(taken) < k and all(round(float(unit[i] @ unit[j]), 6) < similarity for j in taken):
            taken.append(i)
    return sorted((taken + [i for i in order if i not in taken])[:k])


@given(count=st.integers(1, 16), seed=st.integers(0, 60), data=st.data())
def test_strong_tokens_that_repeat_none_before_them(count, seed, data):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-2, 3, (max(1, count // 2), 3), generator=generator).float()
    rows = rows[torch.randint(0, len(rows), (count,), generator=generator)] + 0.25
    tokens = of_rows(rows[None], (1, count))
    k = data.draw(st.integers(1, count))
    assert StrongApart().select(tokens, torch.arange(count), k, seed=0).tolist() == strong_by_hand(rows, k, 0.8)


def chain(features, similarity):
    """The released merge: each token joins one like it that is stronger, whether that is gone itself or not."""
    unit = torch.nn.functional.normalize(features, dim=1)
    into = list(range(len(features)))
    for i in range(len(features)):
        for j in range(i):
            if float(unit[i] @ unit[j]) >= similarity:
                into[i] = j
    return into


def test_a_chain_of_likes_loses_nobody():
    angles = torch.tensor([0.0, 0.6, 1.21])  # neighbours are alike, the ends are not
    rows = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[3.0], [2.0], [1.0]])
    absorbed = chain(rows, 0.8)
    assert absorbed == [0, 0, 1]  # the last joins one that is gone itself: it is in no output
    tokens = of_rows(rows[None], (1, 3))
    kept = StrongApart().select(tokens, torch.arange(3), 2, seed=0)
    assert kept.tolist() == [0, 2]
    assert Mean(least=0.8).merge(tokens, kept).assign.tolist() == [0, 0, 1]


def test_a_mean_with_a_least_cosine_drops_what_is_like_nothing():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.0, 0.0]])
    tokens = of_rows(rows[None], (2, 2))
    assert Mean(least=0.8).merge(tokens, torch.tensor([0])).assign.tolist() == [0, 0, -1, -1]
    assert Mean().merge(tokens, torch.tensor([0])).assign.tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="least=2"):
        Mean(least=2)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: FrameFusion(similarity=2), ValueError),
        (lambda: AlongTime(similarity="x"), TypeError),
        (lambda: FastVID(context=2), ValueError),
        (lambda: FastVID(clips=0), ValueError),
        (lambda: FastVIDMean(stride=0), ValueError),
        (lambda: AdaptiveCodebook(reach=2), ValueError),
        (lambda: AdaptiveCodebook(least=0), ValueError),
        (lambda: StrongApart(similarity=True), TypeError),
    ],
)
def test_bad_parameters_are_refused(make, error):
    with pytest.raises(error):
        make()
