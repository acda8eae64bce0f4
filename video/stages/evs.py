"""Tokens that differ most from what stood at their place one frame before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.budget import Keep
from vtc.stages.allocate.floors import check_floor
from vtc.stages.scores import unit_rows
from vtc.tokens import Layout, VisualTokens

from .film import FilmSelector, before, engine_count, is_film

DIGITS = 6
"""Decimals of a score: rounding must not tell apart tokens that did not change."""


@dataclass(frozen=True)
class EVS(FilmSelector):
    """Efficient video sampling (arXiv 2510.14624): by 1 - cosine to the same cell of the frame before.

    The rule of serving engines (`engine`): what has no frame before it ranks above all, so that the first frame stays
    whole, and the others follow over the whole video, ties to the lower index. It starves: inside a shot that stands
    still a frame keeps nothing, and where the budget is as small as one frame all others do.

    Both are mended by default. Each frame keeps `floor` tokens, those that changed most, where the budget has room for
    that. And the first frame stays whole only up to half of the budget; of a larger one that half stays that is least
    like the frame's mean token, since nothing is known of what changed in it. The budget is meant for all tokens of
    the video at once (`Whole`).

    Attributes:
        floor: the least tokens of each frame; all of a frame that has fewer.
        engine: vLLM's own rule and count: of T frames of N tokens `max(N, int(T N (1 - q)))`, where q is 1 - keep.
    """

    floor: int = 1
    engine: bool = False

    name = "evs"
    paper = "EVS, 2510.14624"
    signal = "change of a cell from frame to frame"
    cost = "N"

    def __post_init__(self) -> None:
        check_floor(self.floor)

    def count(self, layout: Layout, keep: Keep) -> int | None:
        """See `Selector.count`: vLLM's, with `engine`."""
        if not self.engine or not is_film(layout):
            return None
        least = 0 if isinstance(keep, int) else layout.candidates[0]  # a ceiling is one
        return max(least, engine_count(layout, keep))

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `FilmSelector.choose`."""
        score = change(tokens)[pool]
        if self.engine:
            return pool[_highest(score, k)]
        unit = tokens.layout.unit.to(pool.device)[pool]
        first = unit == unit[0]
        if (size := int(first.sum())) < len(pool):
            whole = min(size, max(k // 2, k - (len(pool) - size)))
            inside = torch.nonzero(first).flatten()
            score[inside] = -1.0
            score[inside[_highest(_unlike_the_mean(tokens.features[pool[inside]]), whole)]] = torch.inf
        return pool[_highest(_floored(score, unit, self.floor, k), k)]


def change(tokens: VisualTokens) -> Tensor:
    """`[N]` 1 - cosine to the same cell of the frame before, in fp32; infinite where there is none."""
    rows = unit_rows(tokens.features)
    earlier = before(tokens.layout).to(rows.device)
    score = 1 - (rows * rows[earlier.clamp_min(0)]).sum(dim=1)
    return score.float().round(decimals=DIGITS).masked_fill(earlier < 0, torch.inf)


def _highest(score: Tensor, k: int) -> Tensor:
    """Places of the `k` highest, ascending; ties go to the lower place."""
    return torch.sort(score, descending=True, stable=True).indices[:k].sort().values


def _unlike_the_mean(features: Tensor) -> Tensor:
    rows = unit_rows(features)
    mean = unit_rows(rows.mean(dim=0, keepdim=True))[0]
    return (1 - rows @ mean).round(decimals=DIGITS)


def _floored(score: Tensor, unit: Tensor, floor: int, k: int) -> Tensor:
    """`score`, infinite for the `floor` highest of each unit, where `k` has room for them all."""
    order = torch.sort(score, descending=True, stable=True).indices
    order = order[torch.sort(unit[order], stable=True).indices]
    ordered = unit[order]
    start = torch.searchsorted(ordered, ordered)
    due = order[torch.arange(len(order), device=order.device) - start < floor]
    if len(due) > k:
        return score
    # What stays for sure stands above what is infinite already.
    lifted = score.clamp(max=4.0)
    lifted[due] = 8.0
    return lifted
