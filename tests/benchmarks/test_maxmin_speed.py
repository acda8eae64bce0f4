"""Greedy max-min dispersion against the plain loop: `pytest tests/benchmarks --benchmark-only`.

The plain loop compares every token with every pick, one matrix-vector product a pick. `rule` takes its first pick
from the whole [N, N] matrix, as the rule is written; `loop` is spared that and starts anywhere, though `maxmin` is not.
Nothing is asserted about time. In an ordinary run each function runs once, on a tenth of the tokens: those figures
mean nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from vtc.stages.select.maxmin import maxmin

TOKENS, PICKS = 2880, 288
KINDS = {
    "white": "no structure: bounds help least",
    "clustered": "near-duplicates",
    "smooth": "like an image",
}


def plain_rule(features: Tensor, k: int) -> Tensor:
    """The picks `[k]`, ascending, by the rule as it is written."""
    rows = torch.nn.functional.normalize(features, dim=1)
    pick = int((rows @ rows.T).fill_diagonal_(-1).amax(dim=1).argmin())
    return plain_loop(features, k, pick)


def plain_loop(features: Tensor, k: int, pick: int = 0) -> Tensor:
    """The picks `[k]`, ascending, that follow from the first one."""
    rows = torch.nn.functional.normalize(features, dim=1)
    closest = torch.full((len(rows),), -1.0)
    picks = []
    for _ in range(k):
        picks.append(pick)
        torch.maximum(closest, rows @ rows[pick], out=closest)
        closest[pick] = torch.inf
        pick = int(closest.argmin())
    return torch.tensor(sorted(picks))


@lru_cache(maxsize=1)
def features(kind: str, width: int) -> Tensor:
    """`[TOKENS, width]` fp32 of one kind."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(TOKENS, width, generator=generator)
    if kind == "white":
        return noise
    if kind == "clustered":
        of = torch.randint(0, 60, (TOKENS,), generator=generator)
        return torch.randn(60, width, generator=generator)[of] + 0.05 * noise
    coarse = torch.randn(1, 64, 10, 8, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (60, 48), mode="bicubic")[0].flatten(1).T
    return image @ torch.randn(64, width, generator=generator) / 8 + 0.2 * noise


@pytest.fixture(params=[1, 2], ids=["1thread", "2threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(request.param, os.cpu_count() or 1))
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("width", [1024, 4096])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", [plain_rule, plain_loop, maxmin], ids=["rule", "loop", "maxmin"])
def test_speed(function: Callable, kind: str, width: int, threads: int, benchmark, request) -> None:
    measured = request.config.getoption("benchmark_only")
    count, k, rounds = (TOKENS, PICKS, 7) if measured else (TOKENS // 10, PICKS // 10, 1)
    benchmark.group = f"{count} x {width} -> {k}, {kind} ({KINDS[kind]}), {threads} thread(s)"
    picks = benchmark.pedantic(function, (features(kind, width)[:count], k), rounds=rounds, warmup_rounds=1)
    assert len(set(picks.tolist())) == k
