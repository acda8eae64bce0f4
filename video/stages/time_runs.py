"""Runs along time: a cell that stays as it is becomes one token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.tokens import Reduction, VisualTokens
from vtc.core.validation import check_number
from vtc.stages import Merger
from vtc.stages.ops import top_k, unit_rows
from vtc.stages.select.maxmin import maxmin

from .base import VideoSelector, before, is_video

DIGITS = 6


@dataclass(frozen=True)
class FrameFusion(VideoSelector):
    """The first token of each run along time stays; runs of like tokens are made until the count is exact.

    FrameFusion's rule (arXiv 2501.01986) ahead of the language model: a token is like the same cell of the frame before
    where their cosine is at least `similarity`; the most similar ones join their run first. Where all such runs are
    still too many, runs are pruned. There that is by the last query's attention and between layers, whose states
    are merged again after each; here no attention is known, and the runs stay whose first tokens leave no other far
    away (max-min distance, as `kcenter`). The budget is meant for all tokens of the video (`Whole`), and `AlongTime`
    makes the means.

    Attributes:
        similarity: cosine from which a token continues a run, in [-1, 1].
    """

    similarity: float = 0.6

    name = "framefusion"
    paper = "FrameFusion, 2501.01986"
    signal = "similarity of a cell from frame to frame"
    cost = "N"

    def __post_init__(self) -> None:
        object.__setattr__(self, "similarity", check_number("similarity", self.similarity, -1, 1))

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `VideoSelector.choose`."""
        like, _ = links(tokens)
        like = like[pool].masked_fill(like[pool] < self.similarity, -torch.inf)
        spare = len(pool) - k
        joins = int(like.isfinite().sum())
        if joins >= spare:
            gone = top_k(like, spare)
            stays = torch.ones_like(like, dtype=torch.bool)
            stays[gone] = False
            return pool[stays]
        starts = pool[~like.isfinite()]
        return starts[maxmin(tokens.features[starts], k)]


@dataclass(frozen=True)
class AlongTime(Merger):
    """A dropped token joins the last kept one of its cell before it, if all in between are alike; otherwise it is gone.

    Each link of that chain is a cosine of at least `similarity` between neighbouring frames. A run is averaged in fp32
    over all of its tokens, however many frames it lasts: a length that is kept in bf16, as in the released code, turns
    299 into 300. Of an item that is no video nothing is folded.

    Attributes:
        similarity: as the selector has it, in [-1, 1].
    """

    similarity: float = 0.6

    name = "along-time"
    paper = "FrameFusion, 2501.01986"
    signal = "similarity of a cell from frame to frame"
    videos = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "similarity", check_number("similarity", self.similarity, -1, 1))

    def merge(self, tokens: VisualTokens, anchor: Tensor) -> Reduction:
        """See `Merger.merge`."""
        reduction = Reduction.pruning(anchor, len(tokens))
        if not is_video(tokens.layout):
            return reduction
        like, earlier = links(tokens)
        linked = (like >= self.similarity) & (earlier >= 0)
        into, unit = reduction.assign, tokens.layout.unit.to(anchor.device)
        for frame in range(1, len(tokens.layout.grids)):
            loose = torch.nonzero((unit == frame) & linked & (into < 0)).flatten()
            into[loose] = into[earlier[loose]]
        return reduction


def links(tokens: VisualTokens) -> tuple[Tensor, Tensor]:
    """`[N]` cosine to the same cell of the frame before (minus infinity where there is none), and which that is."""
    rows = unit_rows(tokens.features)
    earlier = before(tokens.layout).to(rows.device)
    like = (rows * rows[earlier.clamp_min(0)]).sum(dim=1).float().round(decimals=DIGITS)
    return like.masked_fill(earlier < 0, -torch.inf), earlier
