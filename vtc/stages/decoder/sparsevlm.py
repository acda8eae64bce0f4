"""SparseVLM: selection by the attention of words that resemble the image; dropped tokens are partly recycled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import Reduction
from vtc.stages.ops import top_k

from .base import (
    Cut,
    DecoderStage,
    DecoderTokens,
    Reads,
    Schedule,
)

RECYCLED = 0.3
"""Share of the dropped tokens that is clustered."""
CLUSTER = 10
"""Tokens that one cluster stands for, about."""
NEIGHBOURS = 5
"""Whose distance makes a token's density."""


@dataclass(frozen=True)
class SparseVLM(DecoderStage):
    """The highest attention of the raters, mean over heads and raters, in the layer before (sections 3.2, 3.3).

    Raters are the words behind the item whose mean affinity to its tokens, as both enter the first layer, is above the
    average; they are the same at every layer. The best of the dropped tokens are clustered by density peaks, and each
    cluster's mean stays at the place of its centre (the authors' code appends them behind the others and numbers all
    positions again). The clusters are part of the exact count. That code takes its counts from a table, which the
    default schedule holds as shares (192 tokens on average, layers 3, 7 and 16 of 32); the paper's own counts follow
    the rank of the attention.

    Attributes:
        schedule: (layer, keep).
        recycle: whether clusters of dropped tokens stay.
    """

    schedule: Schedule = ((0.09375, 0.5208), (0.21875, 0.3472), (0.5, 0.191))
    recycle: bool = True

    name = "sparsevlm"
    paper = "SparseVLM, 2410.04417"
    signal = "attention of the words that resemble the image"
    cost = "N"
    reads = Reads("previous", "text", entry=True)

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Tensor | Reduction:
        """See `DecoderStage.keep`."""
        assert tokens.entered is not None
        assert tokens.words is not None
        chosen = raters(tokens.entered, tokens.words)
        scores = tokens.shown.mean_to_own(torch.nonzero(chosen).flatten())
        best = top_k(scores, _alone(len(tokens), count) if self.recycle else count)
        if len(best) == count:
            return best
        return _recycled(tokens.states, scores, best, count)


def raters(visual: Tensor, words: Tensor) -> Tensor:
    """Return which of `words` `[T, D]` are relevant to `visual` `[N, D]`: bool `[T]`, at least one."""
    affinity = (visual.float() @ words.float().T).softmax(dim=1).mean(dim=0)
    return affinity >= affinity.mean()


def _alone(total: int, count: int) -> int:
    """Return how many stay as they are, so that with the clusters of the others exactly `count` do."""
    return next((kept for kept in range(count, 0, -1) if kept + _clusters(total, kept) <= count), count)


def _clusters(total: int, kept: int) -> int:
    return min(total - kept, int(RECYCLED * (total - kept) + 1)) // CLUSTER + 1


def _recycled(states: Tensor, scores: Tensor, best: Tensor, count: int) -> Reduction:
    """Keep `best`, and clusters the next best until there are `count` outputs."""
    total, spare = len(states), count - len(best)
    rest = torch.ones(total, dtype=torch.bool, device=states.device)
    rest[best] = False
    rest = torch.nonzero(rest).flatten()
    pool = rest[top_k(scores[rest], max(spare, min(len(rest), int(RECYCLED * len(rest) + 1))))]
    centre, member = density_peaks(states[pool].detach().float(), spare)
    anchor, order = torch.cat([best, pool[centre]]).sort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count, device=order.device)
    assign = torch.full((total,), -1, dtype=torch.int64, device=states.device)
    assign[best] = rank[: len(best)]
    assign[pool] = rank[len(best) + member]
    return Reduction(anchor, assign, torch.ones(total, device=states.device))


def density_peaks(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Centres `[count]`, ascending, and each point's cluster `[n]`, of `points` `[n, D]` by kNN density peaks.

    A centre is dense and far from anything denser (Du et al. 2016); the others join the nearest centre. Ties go to
    the lower place.
    """
    points = points - points.mean(dim=0)  # far from the origin, `cdist` loses small distances
    distance = torch.cdist(points, points) / points.shape[1] ** 0.5
    near = distance.topk(min(NEIGHBOURS, len(points)), dim=1, largest=False).values
    density = (-near.square().mean(dim=1)).exp()
    order = torch.arange(len(points), device=points.device)
    denser = (density[None] > density[:, None]) | ((density[None] == density[:, None]) & (order[None] < order[:, None]))
    apart = distance.masked_fill(~denser, torch.inf).amin(dim=1)
    apart = torch.where(apart.isinf(), distance.max(), apart)
    centre = top_k(density * apart, count)
    member = distance[:, centre].argmin(dim=1)
    member[centre] = torch.arange(count, device=points.device)
    return centre, member
