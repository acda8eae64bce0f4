"""EVS: its rule in plain loops, and how the engines' rule starves frames where the mended one does not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.stages.videos import (
    FRAMES,
    choose,
    of_rows,
    per_frame,
    random_video,
)
from vtc.recipes.composition import Recipe
from vtc.stages import Even
from vtc.video.stages import EVS


def noise(frames: int, count: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(frames, count, 8, generator=torch.Generator().manual_seed(seed))


def apart(row: torch.Tensor, other: torch.Tensor) -> float:
    return round(1 - float(row @ other / (row.norm() * other.norm()).clamp_min(1e-12)), 6)


def evs_by_hand(rows: torch.Tensor, k: int, floor: int) -> list[int]:
    """The mended rule in plain loops, on `[T, N, D]`."""
    frames, count = rows.shape[:2]
    cells = [(t, i) for t in range(frames) for i in range(count)]
    unit = rows / rows.norm(dim=2, keepdim=True)
    mean = unit[0].mean(dim=0)
    score = {(t, i): apart(rows[t, i], rows[t - 1, i] if t else mean) for t, i in cells}
    first = sorted(((0, i) for i in range(count)), key=lambda at: (-score[at], at))
    for at in first[: k // 2]:
        score[at] += 4
    order = sorted(cells, key=lambda at: (-score[at], at))
    rounds = [[a for a in order if a[0] == t] for t in range(frames)]
    place = {at: min(floor, rounds[at[0]].index(at)) for at in cells}
    return sorted(t * count + i for t, i in sorted(order, key=lambda at: place[at])[:k])


def evs_of_engines(rows: torch.Tensor, k: int) -> list[int]:
    """The engines' rule: frames with nothing before them first, then whatever changed most."""
    frames, count = rows.shape[:2]
    cells = [(t, i) for t in range(frames) for i in range(count)]
    order = sorted(cells, key=lambda a: (-apart(rows[a], rows[a[0] - 1, a[1]]) if a[0] else -9.0, a))
    return sorted(t * count + i for t, i in order[:k])


@given(frames=st.integers(1, 6), side=st.integers(1, 3), seed=st.integers(0, 50), data=st.data())
def test_the_mended_rule(frames, side, seed, data):
    tokens = random_video(frames, side, seed=seed)
    k = data.draw(st.integers(1, frames * side**2))
    floor = data.draw(st.integers(0, 3))
    assert choose(EVS(floor=floor), tokens, k).tolist() == evs_by_hand(
        tokens.features.unflatten(0, (frames, -1)), k, floor
    )


@given(frames=st.integers(1, 6), side=st.integers(1, 3), seed=st.integers(0, 50), data=st.data())
def test_the_rule_of_engines(frames, side, seed, data):
    tokens = random_video(frames, side, seed=seed)
    k = data.draw(st.integers(1, frames * side**2))
    assert choose(EVS(engine=True), tokens, k).tolist() == evs_of_engines(tokens.features.unflatten(0, (frames, -1)), k)


def test_engines_starve_frames_that_stand_still_and_ours_does_not():
    still = noise(1).repeat(8, 1, 1)
    tokens = of_rows(still)
    theirs = torch.tensor(evs_of_engines(still, 32))
    assert per_frame(tokens, theirs) == [16, 16, 0, 0, 0, 0, 0, 0]
    assert min(per_frame(tokens, choose(EVS(), tokens, 32))) == 1


def test_the_first_frame_takes_half_of_a_small_budget_and_not_all():
    moving = noise(8)
    tokens = of_rows(moving)
    assert per_frame(tokens, torch.tensor(evs_of_engines(moving, 16))) == [16, 0, 0, 0, 0, 0, 0, 0]
    counts = per_frame(tokens, choose(EVS(), tokens, 16))
    assert 8 <= counts[0] <= 9
    assert min(counts[1:]) >= 1
    # Where half of the budget holds it, it stays whole as upstream.
    assert per_frame(tokens, choose(EVS(), tokens, 32))[0] == 16


def test_what_repeats_yields_to_what_is_new_in_the_first_frame():
    tokens = of_rows(noise(1).repeat(8, 1, 1))
    kept = choose(EVS(), tokens, 20)
    assert per_frame(tokens, kept) == [13, 1, 1, 1, 1, 1, 1, 1]  # ten by right, three before any repetition


@given(frames=st.sampled_from(FRAMES), side=st.integers(1, 4), floor=st.integers(0, 4), data=st.data())
def test_every_frame_has_its_floor_as_far_as_the_budget_reaches(frames, side, floor, data):
    tokens = random_video(frames, side, still=0.95)
    k = data.draw(st.integers(1, frames * side**2))
    counts = per_frame(tokens, choose(EVS(floor=floor), tokens, k))
    due = max(f for f in range(min(floor, side**2) + 1) if f * frames <= k)
    assert min(counts) >= due
    if due < min(floor, side**2):
        assert max(counts) <= due + 1  # nobody has more while somebody waits


def test_a_budget_below_one_a_frame_goes_to_frames_that_changed():
    rows = noise(1).repeat(9, 1, 1)
    for t in (3, 6):
        rows[t:] = noise(1, seed=t)
    tokens = of_rows(rows)
    assert per_frame(tokens, choose(EVS(), tokens, 3)) == [1, 0, 0, 1, 0, 0, 1, 0, 0]


def test_scores_decide_inside_a_round_however_many_there_are():
    """Added to the number of a round they would be rounded away."""
    tokens = random_video(4, 14, still=0.9)
    kept = choose(EVS(floor=150), tokens, 598)
    assert kept.tolist() == evs_by_hand(tokens.features.unflatten(0, (4, -1)), 598, 150)
    assert sorted(per_frame(tokens, kept)) == [149, 149, 150, 150]


@pytest.mark.parametrize("gone", [[], [0], [0, 1, 2, 3]])
def test_cells_without_an_earlier_one_count_as_new(gone):
    """An encoder stage may leave cells out, of the frame before or of all the first."""
    rows = noise(1, 4).repeat(3, 1, 1)
    tokens = of_rows(rows)
    left = [i for i in range(12) if i - 4 not in gone]  # of the second frame
    part = type(tokens)(tokens.features[left], tokens.layout.take(torch.tensor(left)))
    kept = choose(EVS(floor=0), part, 8 - len(gone) // 4)
    by_frame = per_frame(part, kept)
    assert by_frame[0] == 4
    if gone == [0]:
        assert left.index(8) in kept.tolist()  # its like in the second frame is gone, so it repeats nothing


def test_a_frame_alone_is_thinned_by_what_is_unlike_its_mean():
    """Under an allocator that shares by frame, too, the first frame is not simply cut at its upper rows."""
    rows = noise(2)
    rows[0, :12] = 1.0
    tokens = of_rows(rows)
    kept = Recipe((Even(), EVS())).reduce(tokens, 8).anchor.tolist()
    assert [i for i in kept if i < 16] == [12, 13, 14, 15]
    assert [i for i in choose(EVS(engine=True), tokens, 4).tolist() if i < 16] == [0, 1, 2, 3]
