"""The tokens that resemble the others chosen least, taken together: greedy max-sum diversity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.stages.base import Pool, Selector
from vtc.stages.ops import unit_rows

from .greedy import CLOSED, pick_together

PIVOTS = ("remote", "attention")
GRAM = 4096
"""Up to this many tokens all cosines may be held at once."""
DEAR = 32
"""A matrix of all cosines costs about as much as one product per this many tokens."""
TIE = 1e-6
"""Mean cosines that differ by less are equal, so that equal rows tie whatever the rounding."""


@dataclass(frozen=True)
class MaxSum(Selector):
    """Greedy max-sum dispersion on the cosine of the features: a pivot, then always the least similar to all chosen.

    The rule of ToDRE (arXiv 2505.18757 version 2, equations 4 to 6; version 1 calls it k-center, which is `kcenter`).
    Chosen tokens are masked, sums are not rounded to the model's dtype. The paper finds that the pivot hardly matters.

    Attributes:
        pivot: the first token. `remote`: the one least similar to the sum of all, which needs no cue. `attention`: the
            one of most attention, the paper's; where the pool holds thumbnails, among their tokens only.
    """

    pivot: str = "remote"

    name = "maxsum"
    paper = "ToDRE, 2505.18757"
    signal = "diversity of the features"
    cost = "N·K"

    def __post_init__(self) -> None:
        if self.pivot not in PIVOTS:
            raise ValueError(f"pivot={self.pivot!r}; expected one of {', '.join(PIVOTS)}")

    @property
    def cues(self) -> tuple[str, ...]:  # type: ignore[override]
        """`attention`, where it gives the pivot."""
        return ("attention",) if self.pivot == "attention" else ()

    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `Selector.select`."""
        return self.select_each([Pool(tokens, pool, k, seed)])[0]

    def select_each(self, pools: Sequence[Pool]) -> list[Tensor]:
        """See `Selector.select_each`."""
        rows = [unit_rows(pool.tokens.features[pool.members]) for pool in pools]
        firsts = [self._first(pool, own) for pool, own in zip(pools, rows, strict=True)]
        picks = max_sum(rows, [pool.k for pool in pools], firsts)
        return [pool.members[own] for pool, own in zip(pools, picks, strict=True)]

    def _first(self, pool: Pool, rows: Tensor) -> Tensor:
        if self.pivot == "attention":
            return _attended(pool.tokens, pool.members)
        return _lowest(torch.mv(rows, rows.sum(dim=0)), TIE * len(rows))


def max_sum(rows: Sequence[Tensor], counts: Sequence[int], firsts: Sequence[Tensor]) -> list[Tensor]:
    """Pick rows of each pool, always the one of the lowest summed cosine with those picked before it.

    Sums whose mean differs by less than 1e-6 tie, and the lower index wins. No pick waits for the host, and off the CPU
    the steps of all pools are taken together.

    Args:
        rows: `[N, D]` of each pool, each row of length one or zero.
        counts: how many of each, 1 <= k <= N.
        firsts: `[1]` int64, the first pick of each.

    Returns:
        `[k]` int64 of each pool, ascending and unique.
    """
    if not rows:
        return []
    picks = (_in_turn if rows[0].device.type == "cpu" else _together)(rows, counts, firsts)
    return [own.sort().values for own in picks]


def _together(rows: Sequence[Tensor], counts: Sequence[int], firsts: Sequence[Tensor]) -> list[Tensor]:
    return pick_together(rows, counts, firsts, start=0.0, joined=torch.add, lowest=_lowest_of_each)


def _in_turn(rows: Sequence[Tensor], counts: Sequence[int], firsts: Sequence[Tensor]) -> list[Tensor]:
    return [_alone(*pool) for pool in zip(rows, counts, firsts, strict=True)]


def _lowest_of_each(sums: Tensor, done: int) -> Tensor:
    """`_lowest` of each row of `sums` `[G, M]`, after `done` picks: `[G, 1]`."""
    return (sums <= sums.amin(dim=1, keepdim=True) + TIE * done).to(torch.uint8).argmax(dim=1, keepdim=True)


def _alone(rows: Tensor, k: int, first: Tensor) -> Tensor:
    """The picks `[k]` of one pool, in order, on the CPU: there a table of all cosines is the cheaper way to many."""
    table = _gram(rows) if len(rows) <= GRAM and k * DEAR > len(rows) else None
    picks = torch.empty(k, dtype=torch.int64, device=rows.device)
    sums = rows.new_zeros(len(rows))
    pick = first
    for done in range(1, k + 1):
        picks[done - 1 : done] = pick
        if done < k:
            row = (rows if table is None else table).index_select(0, pick).squeeze(0)
            sums += torch.mv(rows, row) if table is None else row
            sums.index_fill_(0, pick, CLOSED)
            pick = _lowest(sums, TIE * done)
    return picks


def _lowest(values: Tensor, slack: float) -> Tensor:
    """The first place of the lowest of `values` `[N]`, those within `slack` of it being equal: `[1]` int64."""
    return (values <= values.amin() + slack).to(torch.uint8).argmax(dim=0, keepdim=True)


def _gram(rows: Tensor, block: int = 512) -> Tensor:
    """`rows @ rows.T`, each pair multiplied once."""
    table = rows.new_empty(len(rows), len(rows))
    for start in range(0, len(rows), block):
        end = start + block
        table[start:end, start:] = rows[start:end] @ rows[start:].T
        table[end:, start:end] = table[start:end, end:].T
    return table


def _attended(tokens: VisualTokens, pool: Tensor) -> Tensor:
    """The place in `pool` of most attention, in thumbnails only where it holds any: `[1]` int64."""
    score = tokens.cue("attention")[pool].detach().float()
    finite = torch.finfo(score.dtype)
    score = torch.nan_to_num(score, nan=finite.min, posinf=finite.max, neginf=finite.min)
    viewed = torch.tensor([kind == "thumbnail" for kind in tokens.layout.kinds])[tokens.layout.unit].to(pool.device)[
        pool
    ]
    return score.masked_fill(~viewed & viewed.any(), -torch.inf).argmax(dim=0, keepdim=True)
