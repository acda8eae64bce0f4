"""DyCoke: its rule in plain loops, the released code's answer, and each of its defects beside the mend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.stages.videos import (
    FRAMES,
    REFERENCE,
    check_kept,
    choose,
    of_rows,
    per_frame,
    random_video,
)
from vtc.core.allocation import allocate
from vtc.core.tokens import VisualTokens
from vtc.recipes.composition import Recipe
from vtc.stages import Joint
from vtc.stages.select.maxmin import maxmin
from vtc.video.stages import DyCoke

cases = pytest.mark.parametrize("case", ["s1", "s2"])


def least_like(rows: torch.Tensor, t: int, reference: int, n: int) -> list[int]:
    """The `n` cells of frame t that are least like those of the reference, least first."""
    unit = rows / rows.norm(dim=2, keepdim=True)
    like = [round(float(unit[t, i] @ unit[reference, i]), 6) for i in range(rows.shape[1])]
    return sorted(range(rows.shape[1]), key=lambda i: (like[i], i))[:n]


def released(rows: torch.Tensor, similar: float = 0.7) -> list[tuple[int, int]]:
    """What released code keeps of `[T, N, D]`, in its order, defects and all: (frame, cell)."""
    frames, count = rows.shape[:2]
    n = int((1 - similar) * count)
    kept = [list(range(count)) for _ in range(frames - frames % 2)]  # an odd last one has no partner
    for t in range(0, frames - 1, 2):
        kept[t + 1] = least_like(rows, t + 1, t, n)
    groups = range(0, frames - 4, 4)
    if not groups:
        raise RuntimeError("stack expects a non-empty TensorList")
    for t in groups:
        kept[t + 2] = least_like(rows, t + 2, t, n)
    return [(t, i) for t, cells in enumerate(kept) for i in cells]


def by_hand(rows: torch.Tensor, k: int, similar: float) -> list[int]:
    """The mended rule in plain loops; which tokens leave no other far away is `maxmin`'s to say, tested elsewhere."""
    frames, count = rows.shape[:2]
    weights = [count * (1.0 if t % 4 == 0 else 1 - similar) for t in range(frames)]
    counts = allocate(weights, k, min_per=1 if k >= frames else 0, max_per=count)
    kept: list[int] = []
    for t, n in enumerate(counts):
        reference = {1: t - 1, 2: t - 2, 3: t - 1}.get(t % 4)
        if n:
            cells = maxmin(rows[t], n).tolist() if reference is None else least_like(rows, t, reference, n)
            kept += [t * count + i for i in cells]
    return sorted(kept)


def places(tokens: VisualTokens, wanted: np.ndarray) -> list[int]:
    """Where in the video each of the rows `wanted` stands."""
    at = {row.tobytes(): i for i, row in enumerate(tokens.features.numpy())}
    return [at[row.tobytes()] for row in wanted]


@cases
def test_as_the_released_code_all_but_its_order(case):
    tokens = of_rows(REFERENCE[f"{case}/dycoke_x"])
    wanted = places(tokens, REFERENCE[f"{case}/dycoke_out"])
    made = Recipe((Joint(), DyCoke(released=True)), keep=0.3)
    total = made.count(tokens.layout)
    assert total == len(wanted) == 399
    assert made.reduce(tokens, total).anchor.tolist() == sorted(wanted)
    assert wanted != sorted(wanted)  # the defect: by similarity inside a frame
    # The mended rule, at the same count, is another.
    assert choose(DyCoke(), tokens, total).tolist() != sorted(wanted)


@cases
def test_the_copy_of_the_released_rule_is_one(case):
    tokens = of_rows(REFERENCE[f"{case}/dycoke_x"])
    kept = sorted(t * 49 + i for t, i in released(tokens.features.unflatten(0, (16, 49))))
    assert kept == sorted(places(tokens, REFERENCE[f"{case}/dycoke_out"]))


@given(
    frames=st.sampled_from(FRAMES),
    side=st.integers(1, 3),
    seed=st.integers(0, 50),
    similar=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    data=st.data(),
)
def test_the_mended_rule(frames, side, seed, similar, data):
    tokens = random_video(frames, side, seed=seed, still=0.3)
    k = data.draw(st.integers(1, frames * side**2))
    rows = tokens.features.unflatten(0, (frames, -1))
    assert choose(DyCoke(similar=similar), tokens, k).tolist() == by_hand(rows, k, similar)


@pytest.mark.parametrize("frames", [6, 7, 8, 9, 16, 33])
def test_the_released_mode_at_any_length(frames):
    tokens = random_video(frames, 5, still=0.3)
    mode = DyCoke(released=True)
    kept = choose(mode, tokens, mode.count(tokens.layout, 0.3))
    assert kept.tolist() == sorted(t * 25 + i for t, i in released(tokens.features.unflatten(0, (frames, 25))))


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_four_frames_and_fewer(frames):
    tokens = random_video(frames, 4, still=0.3)
    with pytest.raises(RuntimeError):
        released(tokens.features.unflatten(0, (frames, 16)))
    with pytest.raises(ValueError, match=f"fails on {frames} frames .* released=False"):
        DyCoke(released=True).count(tokens.layout, 0.5)
    for k in range(1, frames * 16 + 1):
        check_kept(choose(DyCoke(), tokens, k), torch.arange(frames * 16), k)


@pytest.mark.parametrize("frames", [5, 7, 9, 33])
def test_the_last_of_an_odd_number_stays(frames):
    tokens = random_video(frames, 4, still=0.3)
    assert max(t for t, _ in released(tokens.features.unflatten(0, (frames, 16)))) == frames - 2
    assert min(per_frame(tokens, choose(DyCoke(), tokens, frames * 8))) > 0
    assert min(per_frame(tokens, choose(DyCoke(), tokens, frames))) == 1


def test_the_last_group_is_as_the_others_and_less_than_a_quarter_can_stay():
    tokens = random_video(16, 10, still=0.3)
    theirs = released(tokens.features.unflatten(0, (16, 100)))
    assert [sum(t == at for at, _ in theirs) for t in range(16)] == [100, 30, 30, 30] * 3 + [100, 30, 100, 30]
    assert per_frame(tokens, choose(DyCoke(), tokens, 4 * 190)) == [100, 30, 30, 30] * 4
    assert per_frame(tokens, choose(DyCoke(), tokens, 4 * 38)) == [20, 6, 6, 6] * 4
    # Upstream even dropping all that is similar leaves first frames whole.
    assert len(released(tokens.features.unflatten(0, (16, 100)), similar=1.0)) >= 400


@pytest.mark.parametrize(("similar", "k", "wanted"), [(1.0, 30, [16, 5, 5, 4]), (0.0, 30, [8, 8, 7, 7])])
def test_the_ends_of_similar(similar, k, wanted):
    tokens = random_video(4, 4, still=0.3)
    assert per_frame(tokens, choose(DyCoke(similar=similar), tokens, k)) == wanted


def test_the_released_mode_takes_no_ceiling():
    """It keeps what it keeps; with a share of all it is not asked."""
    layout = random_video(8, 4).layout
    for keep in (1, 20):
        with pytest.raises(ValueError, match=f"keep={keep} is a ceiling"):
            DyCoke(released=True).count(layout, keep)
    assert DyCoke(released=True).count(layout, 1.0) is None
    assert DyCoke().count(layout, 20) is None


def test_cells_that_the_reference_lacks_are_new():
    """An encoder stage left them out of the reference: nothing stands for them, so they stay first."""
    rows = random_video(2, 4, still=1.0)
    left = torch.tensor([i for i in range(32) if i not in (3, 9)])
    part = VisualTokens(rows.features[left], rows.layout.take(left))
    kept = left[choose(DyCoke(similar=0.9), part, 16)].tolist()
    assert {16 + 3, 16 + 9} == {i for i in kept if i >= 16}
