"""VidCom2: the authors' rule in plain loops, their inexact count, and the exact one of engines and of ours."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.stages.videos import (
    REFERENCE,
    choose,
    of_rows,
    per_frame,
    random_video,
)
from vtc.video.stages import VidCom2

ALPHAS = (1 / 8, 1 / 4, 1 / 2, 1, 2)


def near(a: torch.Tensor, b: torch.Tensor) -> float:
    distance = float(((a - b) ** 2).sum())
    return sum(math.exp(-distance / (2 * alpha)) for alpha in ALPHAS)


def by_authors(
    rows: torch.Tensor, share: float, temperature: float = 0.01
) -> tuple[list[list[int]], list[list[float]]]:
    """The authors' rule on `[T, N, D]`: the places kept of each frame, least redundant first, and all redundancies."""
    frames, count, width = rows.shape
    rows = rows.double()
    flat = rows.flatten(0, 1)
    spread = [float(((flat[:, c] - flat[:, c].mean()) ** 2).mean()) for c in range(width)]
    steady = sorted(sorted(range(width), key=lambda c: (spread[c], c))[: max(1, width // 2)])
    unit = rows[:, :, steady]
    unit = unit / unit.norm(dim=2, keepdim=True)
    video, own = unit.flatten(0, 1).mean(dim=0), unit.mean(dim=1)
    to_video = [[near(unit[t, i], video) for i in range(count)] for t in range(frames)]
    redundant = [[to_video[t][i] + near(unit[t, i], own[t]) for i in range(count)] for t in range(frames)]
    far = [-sum(row) / count for row in to_video]
    mass = [math.exp((f - max(far)) / temperature) for f in far]
    p = [m / sum(mass) for m in mass]
    due = [max(1, round(round(min(1.0, share * (1 + p[t] - 1 / frames)) * count, 5))) for t in range(frames)]
    kept = [sorted(range(count), key=lambda i: (redundant[t][i], i))[: due[t]] for t in range(frames)]
    return kept, redundant


def made_exact(kept: list[list[int]], redundant: list[list[float]], k: int, engine: bool) -> list[int]:
    """The last step of engines: drop the most redundant, or add the least; ours leaves each frame its best."""
    frames, count = len(redundant), len(redundant[0])
    inside = [(t, i) for t in range(frames) for i in kept[t]]
    while len(inside) > k:
        loose = [at for at in inside if engine or k < frames or at[1] != kept[at[0]][0]]
        inside.remove(max(loose, key=lambda at: (redundant[at[0]][at[1]], (-at[0], -at[1]))))
    while len(inside) < k:
        rest = [(t, i) for t in range(frames) for i in range(count) if (t, i) not in inside]
        inside.append(min(rest, key=lambda at: (redundant[at[0]][at[1]], at)))
    return sorted(t * count + i for t, i in inside)


def drawn(frames: int, count: int, seed: int, drift: float) -> torch.Tensor:
    """Frames that differ from each other by `drift` of what their tokens do."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(frames, count, 10, generator=generator)
    return rows + drift * torch.randn(frames, 1, 10, generator=generator)


@given(
    frames=st.integers(1, 6),
    count=st.sampled_from([1, 4, 9, 16]),
    seed=st.integers(0, 99),
    drift=st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    engine=st.booleans(),
    data=st.data(),
)
def test_the_rule_in_plain_loops(frames, count, seed, drift, engine, data):
    rows = drawn(frames, count, seed, drift)
    k = data.draw(st.integers(1, frames * count))
    kept, redundant = by_authors(rows, k / (frames * count))
    assert choose(VidCom2(engine=engine), of_rows(rows), k).tolist() == made_exact(kept, redundant, k, engine)


def test_halves_are_halves():
    """Five of six frames are due 2.5 of 4 tokens and a little; whether fp32 sees how little must not matter."""
    rows = drawn(6, 4, 0, 3.0)
    for temperature in (0.04 * 0.9**i for i in range(30)):
        kept, redundant = by_authors(rows, 0.75, temperature)
        wanted = made_exact(kept, redundant, 18, engine=False)
        assert choose(VidCom2(temperature), of_rows(rows), 18).tolist() == wanted


@pytest.mark.parametrize("case", ["s1", "s2"])
def test_the_authors_count_is_another_and_ours_is_exact(case):
    rows = torch.from_numpy(REFERENCE[f"{case}/x"])
    tokens = of_rows(rows, (6, 8))
    off = []
    for k in (77, 192, 384, 691):
        kept, _ = by_authors(rows, k / 768)
        theirs = {t * 48 + i for t in range(16) for i in kept[t]}
        off.append(len(theirs) - k)
        ours = choose(VidCom2(), tokens, k).tolist()
        assert len(ours) == k
        # Nothing else differs: the one holds the other.
        assert theirs <= set(ours) or set(ours) <= theirs
    assert any(off)


def test_a_frame_that_stands_out_gets_about_twice_its_part():
    rows = drawn(8, 49, 0, 0.0) + 3.0
    rows[5, :, :2] -= 6.0
    rows[:, :, 5:] *= 20  # so that the steady half is the other
    tokens = of_rows(rows)
    counts = per_frame(tokens, choose(VidCom2(), tokens, 98))
    assert counts.pop(5) == 23  # a quarter is 12
    assert sorted(counts) == [9, 11, 11, 11, 11, 11, 11]  # two in all are dropped to be exact
    even = per_frame(tokens, choose(VidCom2(temperature=1e6), tokens, 98))
    assert sorted(even) == [12] * 7 + [14]  # and two added


def test_equal_frames_get_equal_parts():
    rows = drawn(1, 16, 0, 0.0).repeat(6, 1, 1)
    counts = per_frame(of_rows(rows), choose(VidCom2(), of_rows(rows), 24))
    assert counts == [4] * 6
    assert choose(VidCom2(), of_rows(rows), 24).unflatten(0, (6, 4)).remainder(16).unique(dim=0).shape[0] == 1


def plain(frames: int, seed: int) -> torch.Tensor:
    """Frames that are near the video's mean as a whole, and one whose tokens are all far from it."""
    rows = 0.05 * drawn(frames, 4, seed, 0.0) + torch.ones(10)
    rows[-1] = drawn(1, 4, seed + 1, 0.0)[0]
    return rows


def test_engines_can_starve_a_frame_to_be_exact_and_ours_does_not():
    starved = []
    for seed in range(8):
        tokens = of_rows(plain(6, seed))
        starved.append(min(per_frame(tokens, choose(VidCom2(engine=True), tokens, 6))))
        assert per_frame(tokens, choose(VidCom2(), tokens, 6)) == [1] * 6
    assert min(starved) == 0


@given(frames=st.integers(1, 9), side=st.integers(1, 4), data=st.data())
def test_every_frame_keeps_one_where_the_budget_has_one_for_each(frames, side, data):
    tokens = random_video(frames, side)
    k = data.draw(st.integers(frames, frames * side**2))
    assert min(per_frame(tokens, choose(VidCom2(), tokens, k))) >= 1


def test_frames_of_unlike_size_share_alike():
    """An encoder stage left cells out of some frames; a structural token counts in none."""
    rows = drawn(4, 16, 0, 0.0)
    tokens = of_rows(rows)
    left = torch.tensor([i for i in range(64) if not 16 <= i < 28])
    part = type(tokens)(tokens.features[left], tokens.layout.take(left))
    counts = per_frame(part, choose(VidCom2(temperature=1e6), part, 26))
    assert counts[1] == 2
    assert sum(counts) == 26


def test_the_steady_half_of_the_channels_decides():
    rows = drawn(5, 9, 0, 0.3)
    rows[:, :, 5:] *= 10
    loud = rows.clone()
    loud[:, :, 5:] = 10 * drawn(5, 9, 1, 1.0)[:, :, 5:]
    assert choose(VidCom2(), of_rows(rows), 15).tolist() == choose(VidCom2(), of_rows(loud), 15).tolist()
    loud[:, :, :5] = drawn(5, 9, 2, 1.0)[:, :, :5]
    assert choose(VidCom2(), of_rows(rows), 15).tolist() != choose(VidCom2(), of_rows(loud), 15).tolist()
