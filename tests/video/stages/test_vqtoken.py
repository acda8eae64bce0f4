"""Codebooks against plain loops; how many codes there are; one K-means, the same in every run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vtc.video.stages.codebook as module
from tests.video.stages.videos import SHARES, of_rows, random_video
from vtc.recipes.composition import Recipe
from vtc.stages import Joint
from vtc.stages.select.maxmin import maxmin
from vtc.video.stages import AdaptiveCodebook, Codebook, CodebookMean


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def draws(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def lloyd(rows, seeds, rounds=10):
    """K-means by cosine, one row after the other."""
    means, code = rows[seeds], None
    for _ in range(rounds):
        found = [max(range(len(means)), key=lambda c: (row @ means[c], -c)) for row in rows]
        count = [found.count(c) for c in range(len(means))]
        own = list(found)
        worst = iter(sorted(range(len(rows)), key=lambda i: (rows[i] @ means[own[i]], i)))
        for c in [c for c in range(len(means)) if not count[c]]:
            row = next(i for i in worst if count[own[i]] > 1)
            count[own[row]] -= 1
            found[row] = c
        if found == code:
            break
        code = found
        means = np.stack([unit(sum(rows[i] for i in range(len(rows)) if code[i] == c)) for c in range(len(means))])
    return code, means


def members(rows, code, means):
    """The row nearest to each mean, among those of its code."""
    each = [[i for i, c in enumerate(code) if c == k] for k in range(len(means))]
    return sorted(max(own, key=lambda i: (round(rows[i] @ means[k], 5), -i)) for k, own in enumerate(each))


@settings(max_examples=40)
@given(frames=st.integers(1, 5), count=st.sampled_from([1, 4, 7]), seed=st.integers(0, 30), data=st.data())
def test_a_codebook_is_plain_kmeans(frames, count, seed, data):
    rows = draws(frames * count, seed)
    k = data.draw(st.integers(1, len(rows)))
    tokens = of_rows(rows.unflatten(0, (frames, count)), (1, count))
    kept = Codebook().select(tokens, torch.arange(len(rows)), k, seed=0)
    plain = unit(rows.double().numpy())
    assert kept.tolist() == members(plain, *lloyd(plain, maxmin(rows, k).numpy()))
    into = CodebookMean().merge(tokens, kept).assign.tolist()
    assert into == [int((plain[kept] @ row).argmax()) for row in plain]


def test_an_empty_code_takes_the_row_least_like_its_own():
    angles = torch.tensor([0.0, 0.0, 0.1, 1.5, 1.9])
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    seeds = torch.tensor([0, 1, 3])  # the second repeats the first: nothing is nearest to it
    assert (rows @ rows[seeds].T).argmax(dim=1).tolist() == [0, 0, 0, 2, 2]
    code, means = module.codes(rows, seeds)
    assert sorted(set(code.tolist())) == [0, 1, 2]
    assert code.tolist() == lloyd(rows.double().numpy(), seeds.numpy())[0]
    assert bool(means.isfinite().all())


@settings(max_examples=40)
@given(count=st.integers(2, 24), seed=st.integers(0, 30), data=st.data())
def test_seeds_are_added_until_all_are_in_reach(count, seed, data):
    rows = draws(count, seed)
    least, most = data.draw(st.integers(1, 6)), data.draw(st.integers(1, count - 1))
    reach = data.draw(st.sampled_from([-1.0, 0.0, 0.5, 0.9, 1.0]))
    plain = unit(rows.double().numpy())
    picked = [int((plain @ plain.mean(axis=0)).argmin())]
    while len(picked) < most:
        left = {i: max(plain[i] @ plain[j] for j in picked) for i in range(count) if i not in picked}
        if len(picked) >= least and min(left.values()) >= reach:
            break
        picked.append(min(left, key=lambda i: (left[i], i)))
    tokens = of_rows(rows[None], (1, count))
    kept = AdaptiveCodebook(reach=reach, least=least).select(tokens, torch.arange(count), most, seed=0)
    assert kept.tolist() == members(plain, *lloyd(plain, sorted(picked)))


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8, 16])
@pytest.mark.parametrize("side", [1, 2, 7])
def test_the_adaptive_count_lies_between_one_and_what_is_kept(frames, side):
    tokens = random_video(frames, side)
    spoilt = tokens.features.clone()
    spoilt[::3] = torch.nan
    for rows in (tokens.features, spoilt, torch.ones_like(spoilt), tokens.features.to(torch.bfloat16)):
        for share in SHARES:
            k = max(1, int(share * len(tokens) + 0.5))
            some = replace(tokens, features=rows)
            kept = Recipe((Joint(), AdaptiveCodebook(), CodebookMean())).reduce(some, k).anchor
            assert 1 <= len(kept) <= k
            assert bool((kept.diff() > 0).all())
            # No fewer than `least`, unless `keep` asks for that.
            assert len(kept) >= min(k, 12)


def test_one_kmeans_however_many_codes_there_are(monkeypatch):
    runs = []
    monkeypatch.setattr(module, "codes", lambda rows, seeds, real=module.codes: runs.append(1) or real(rows, seeds))
    tokens = of_rows(draws(64, 0).unflatten(0, (4, 16)))
    kept = AdaptiveCodebook(least=2).select(tokens, torch.arange(64), 32, seed=0)
    assert len(kept) > 3
    assert len(runs) == 1  # the released search runs K-means for every count it tries


def test_the_same_codes_in_every_run_where_a_random_start_gives_others():
    rows = draws(60, 1)
    tokens = of_rows(rows.unflatten(0, (4, 15)), (3, 5))
    torch.manual_seed(0)
    first = Codebook().select(tokens, torch.arange(60), 8, seed=0).tolist()
    torch.manual_seed(1)
    assert Codebook().select(tokens, torch.arange(60), 8, seed=5).tolist() == first
    plain = unit(rows.double().numpy())
    starts = [np.random.default_rng(seed).choice(60, 8, replace=False) for seed in range(2)]
    assert members(plain, *lloyd(plain, starts[0])) != members(plain, *lloyd(plain, starts[1]))
