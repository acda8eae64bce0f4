"""Greedy max-min dispersion: against the released reference, a slow oracle, and what holds of any input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import vtc.stages.select.maxmin as module
from vtc.stages.ops import unit_rows
from vtc.stages.select import greedy
from vtc.stages.select.maxmin import maxmin, maxmin_each

REFERENCE = Path(__file__).parents[1] / "data" / "reference_image.npz"
TIE = 1e-6
KINDS = (
    "white",
    "clustered",
    "duplicated",
    "constant",
    "zero rows",
    "nan rows",
    "lattice",
    "one-hot",
    "off-centre",
)


def draw(kind: str, count: int, width: int, seed: int = 0) -> Tensor:
    """Features `[count, width]` fp32 of one kind."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, width))
    if kind == "clustered":
        centres = random.normal(size=(max(1, count // 12), width))
        x = centres[random.integers(len(centres), size=count)] + 0.1 * x
    elif kind == "duplicated":
        x = x[random.integers(max(1, count // 5), size=count)]
    elif kind == "constant":
        x = np.broadcast_to(x[:1], x.shape).copy()
    elif kind == "zero rows":
        x[random.random(count) < 0.2] = 0
    elif kind == "nan rows":
        x[random.random(count) < 0.2, 0] = random.choice([np.nan, np.inf, -np.inf])
    elif kind == "lattice":
        x = random.integers(-1, 2, size=x.shape)
    elif kind == "one-hot":
        x = np.eye(count, max(count, width))
    elif kind == "off-centre":
        x = x + 5
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


def unit(x: Tensor) -> np.ndarray:
    """Rows of length one in fp64; rows without direction are zeros."""
    rows = x.numpy().astype(np.float64)
    rows[~np.isfinite(rows).all(axis=1)] = 0
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def remoteness(rows: np.ndarray) -> np.ndarray:
    """Each row's distance to its nearest other row."""
    distance = 1 - rows @ rows.T
    np.fill_diagonal(distance, np.inf)
    return distance.min(axis=1)


def oracle(x: Tensor, k: int) -> tuple[list[int], float]:
    """The rule as it is written, in fp64 on the whole matrix: sorted picks, and the smallest lead of any."""
    rows = unit(x)
    score, closest, picks, lead = remoteness(rows), np.full(len(rows), np.inf), [], np.inf
    for _ in range(k):
        pick = int(score.argmax())
        rest = np.delete(score, [pick, *picks])
        lead = min(lead, score[pick] - rest.max()) if len(rest) else lead
        picks.append(pick)
        closest = np.minimum(closest, 1 - rows @ rows[pick])
        score = closest.copy()
        score[picks] = -np.inf
    return sorted(picks), float(lead)


def obeys(x: Tensor, picks: list[int], *, any_first: bool = False) -> bool:
    """Whether some order of `picks` follows the rule, each pick within `TIE` of the best that there then was.

    Where several picks tie, any may have come first: all are tried. `any_first` asks nothing of the first.
    """
    rows = unit(x)
    distance = 1 - rows[picks] @ rows.T

    def follow(score: np.ndarray, closest: np.ndarray, left: frozenset[int]) -> bool:
        for i in sorted(left):
            if score[picks[i]] >= score.max() - TIE:
                after = np.minimum(closest, distance[i])
                after[picks[i]] = -np.inf
                if follow(after, after, left - {i}):
                    return True
        return not left

    first = np.zeros(len(rows)) if any_first else remoteness(rows)
    return follow(first, np.full(len(rows), np.inf), frozenset(range(len(picks))))


def check(x: Tensor, k: int, picks: Tensor, **kwargs: bool) -> None:
    """Asserts all that holds of any answer."""
    chosen = picks.tolist()
    assert picks.dtype == torch.int64
    assert len(chosen) == k
    assert chosen == sorted(set(chosen))
    assert 0 <= chosen[0] <= chosen[-1] < len(x)
    assert obeys(x, chosen, **kwargs)


inputs = st.tuples(st.sampled_from(KINDS), st.integers(1, 60), st.integers(1, 24), st.integers(0, 999))


@pytest.mark.parametrize("case", ["s1_n144", "s1_n576", "s2_n144", "s2_n576"])
def test_picks_what_the_released_reference_picks(case: str) -> None:
    with np.load(REFERENCE) as arrays:
        picks = maxmin(torch.from_numpy(arrays[f"{case}/x"]), int(arrays[f"{case}/k"]))
        assert picks.tolist() == arrays[f"{case}/maxmin"].tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "width", "k"), [(700, 64, 90), (300, 16, 299), (13, 4, 5)])
def test_follows_the_rule(kind: str, count: int, width: int, k: int) -> None:
    x = draw(kind, count, width)
    picks = maxmin(x, k)
    check(x, k, picks)
    expected, lead = oracle(x, k)
    if lead > TIE:
        assert picks.tolist() == expected


@given(inputs, st.data())
def test_follows_the_rule_on_any_input(case, data: st.DataObject) -> None:
    x = draw(*case)
    k = data.draw(st.integers(1, len(x)))
    check(x, k, maxmin(x, k))


@pytest.mark.parametrize("block", [2, 5, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_follows_the_rule_with_blocks_much_smaller_than_the_input(kind, block, monkeypatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    for seed in range(4):
        x = draw(kind, 150, 8, seed)
        check(x, 40, maxmin(x, 40))


@pytest.mark.parametrize("kind", KINDS)
def test_above_the_exact_size_only_the_first_pick_may_differ(kind, monkeypatch) -> None:
    monkeypatch.setattr(module, "EXACT", 64)
    monkeypatch.setattr(module, "BLOCK", 16)
    x = draw(kind, 400, 8)
    check(x, 30, maxmin(x, 30), any_first=True)
    check(x, 30, on_a_device(x, 30), any_first=True)


def test_above_the_exact_size_finds_the_lone_token() -> None:
    x = draw("off-centre", 5000, 16)
    x[3211] = -1
    assert maxmin(x, 1).tolist() == [3211]
    assert on_a_device(x, 1).tolist() == [3211]


def on_a_device(x: Tensor, k: int) -> Tensor:
    """What `maxmin` picks on a device."""
    return module._plain([unit_rows(x)], [k])[0].sort().values


@pytest.mark.parametrize("kind", KINDS)
def test_the_device_path_follows_the_rule(kind: str) -> None:
    x = draw(kind, 500, 32)
    check(x, 60, on_a_device(x, 60))


@pytest.mark.parametrize("held", [2**28, 900 * 8, 1])
def test_the_device_path_picks_in_many_pools_as_in_each(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greedy, "HELD", held)  # all of them together, some, each alone
    kinds = [kind for kind in KINDS if kind != "one-hot"]  # whose width is its count
    pools = [draw(kind, 40 + 40 * i, 8, i) for i, kind in enumerate(kinds)]
    counts = [1 + len(pool) // 3 for pool in pools]
    together = module._plain([unit_rows(pool) for pool in pools], counts)
    for pool, k, picks in zip(pools, counts, together, strict=True):
        assert len(picks) == k
        check(pool, k, picks.sort().values)


def test_pools_are_taken_together_while_they_can_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greedy, "HELD", 100)
    rows = [torch.zeros(n, 5) for n in (4, 6, 10, 3, 30, 2)]
    assert list(greedy._groups(rows)) == [range(2), range(2, 4), range(4, 5), range(5, 6)]
    assert list(greedy._groups([])) == []


@given(st.lists(inputs, min_size=1, max_size=4), st.data())
def test_each_of_several_pools_is_picked_in_as_alone(cases, data: st.DataObject) -> None:
    pools = [draw(kind, count, 6, seed) for kind, count, _, seed in cases]
    counts = [data.draw(st.integers(1, len(pool))) for pool in pools]
    for pool, k, picks in zip(pools, counts, maxmin_each(pools, counts), strict=True):
        assert torch.equal(picks, maxmin(pool, k))


class NoWordFromTheHost(TorchDispatchMode):
    """Fails on every operation that would make a GPU and its host wait for one another."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        assert not any(word in name for word in self.WAITS), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("exact", [4096, 64])
def test_the_device_path_never_waits_for_the_host(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT", exact)
    rows = unit_rows(draw("clustered", 300, 8))
    with NoWordFromTheHost():
        module._plain([rows, rows[:280]], [20, 10])
    with pytest.raises(AssertionError), NoWordFromTheHost():
        module._lazy(rows, 20, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_follows_the_rule_on_a_gpu() -> None:
    for kind in KINDS:
        x = draw(kind, 700, 64)
        picks = maxmin(x.cuda(), 90)
        assert picks.is_cuda
        check(x, 90, picks.cpu())


@given(inputs, st.data())
def test_permuting_the_tokens_permutes_the_picks(case, data: st.DataObject) -> None:
    x = draw(*case)
    k = data.draw(st.integers(1, len(x)))
    assume(oracle(x, k)[1] > 10 * TIE)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(case[-1]))
    assert order[maxmin(x[order], k)].sort().values.tolist() == maxmin(x, k).tolist()


@given(inputs, st.data())
def test_any_dtype_of_the_same_values_gives_the_same_picks(case, data: st.DataObject) -> None:
    x = draw(*case).bfloat16()
    k = data.draw(st.integers(1, len(x)))
    picks = maxmin(x, k).tolist()
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert maxmin(x.to(dtype), k).tolist() == picks


@pytest.mark.parametrize("k", [1, 7, 40])
def test_ties_go_to_the_lower_index(k: int) -> None:
    assert maxmin(draw("constant", 40, 100), k).tolist() == list(range(k))
    assert maxmin(draw("one-hot", 40, 40), k).tolist() == list(range(k))
    assert maxmin(torch.zeros(40, 3), k).tolist() == list(range(k))


def test_the_first_pick_of_equals_is_the_lowest_and_not_the_first_looked_at() -> None:
    paired = draw("one-hot", 40, 40)
    paired[0] = paired[39]
    assert maxmin(paired, 1).tolist() == [1]


def test_equal_rows_are_picked_only_after_all_others() -> None:
    x = draw("white", 12, 64).repeat_interleave(5, dim=0)
    assert maxmin(x, 12).tolist() == list(range(0, 60, 5))
    assert maxmin(x, 15).tolist() == [0, 1, 2, 3, *range(5, 60, 5)]


def test_length_does_not_count() -> None:
    x = draw("white", 80, 16)
    picks = maxmin(x, 20)
    assert torch.equal(maxmin(x * 1e-20, 20), picks)
    assert torch.equal(maxmin(x * 1e30, 20), picks)
    mixed = x * torch.logspace(-36, 36, 80)[:, None]
    assert torch.equal(maxmin(mixed, 20), picks)


def test_rows_without_direction_are_zero_vectors() -> None:
    x = draw("off-centre", 50, 16)
    for value in (0.0, torch.nan, torch.inf, -torch.inf):
        broken = x.clone()
        broken[[4, 31]] = value
        # At distance 1 of everything, where all others are near each other: first, and first of the rest.
        assert {4, 31} <= set(maxmin(broken, 3).tolist())


def test_settings_of_the_process_do_not_matter() -> None:
    x = draw("off-centre", 600, 256)
    picks = maxmin(x, 80)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(maxmin(x, 80), picks)
    with torch.inference_mode():
        assert torch.equal(maxmin(x, 80), picks)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(maxmin(x, 80), picks)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_input_is_left_alone_and_no_gradient_flows() -> None:
    x = draw("nan rows", 40, 8).requires_grad_()
    before = x.detach().clone()
    picks = maxmin(x, 10)
    assert torch.equal(x.detach().nan_to_num(7.0), before.nan_to_num(7.0))
    x[picks].nan_to_num().sum().backward()
    strided = draw("white", 16, 40).T
    assert torch.equal(maxmin(strided, 10), maxmin(strided.contiguous(), 10))


def test_the_checker_refuses_other_selections() -> None:
    x = draw("clustered", 200, 32)
    right = maxmin(x, 20).tolist()
    outside = next(i for i in range(200) if i not in right)
    assert obeys(x, right)
    assert not obeys(x, x.norm(dim=1).topk(20).indices.tolist())
    assert not obeys(x, list(range(20)), any_first=True)
    assert not obeys(x, sorted([*right[1:], outside]))


@pytest.mark.parametrize(
    ("features", "k", "error", "words"),
    [
        (torch.ones(4, 2), 0, ValueError, "k must be at least 1 and at most the number of tokens, 4, got 0"),
        (torch.ones(4, 2), 5, ValueError, "got 5"),
        (torch.ones(4, 2), -1, ValueError, "got -1"),
        (torch.ones(0, 2), 1, ValueError, "number of tokens, 0, got 1"),
        (torch.ones(4, 2), True, TypeError, "k must be an int, got True"),
        (torch.ones(4, 2), 2.0, TypeError, "k must be an int, got 2.0"),
        (torch.ones(4), 1, ValueError, r"shape \[N, D\] with D >= 1, got \[4\]"),
        (torch.ones(1, 4, 2), 1, ValueError, r"got \[1, 4, 2\]"),
        (torch.ones(4, 0), 1, ValueError, r"got \[4, 0\]"),
        (torch.ones(4, 2, dtype=torch.int64), 1, TypeError, "floating point tensor, got torch.int64"),
        ([[1.0, 2.0]], 1, TypeError, "floating point tensor, got list"),
    ],
)
def test_errors_name_the_argument_and_its_value(features, k, error, words) -> None:
    with pytest.raises(error, match=words):
        maxmin(features, k)


def test_one_token() -> None:
    assert maxmin(torch.zeros(1, 3), 1).tolist() == [0]
