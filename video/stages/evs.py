"""Tokens that differ most from what stood at their place one frame before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.budget import Keep
from vtc.core.tokens import Layout, VisualTokens
from vtc.stages.allocate.minimums import check_floor
from vtc.stages.ops import top_k, unit_rows

from .base import (
    VideoSelector,
    before,
    engine_count,
    is_video,
)
from .ranking import frame_means, frames_of, rank_inside

DIGITS = 6
"""Decimals of a score: rounding must not tell apart tokens that did not change."""
ABOVE = 4.0
"""More than any 1 - cosine."""


@dataclass(frozen=True)
class EVS(VideoSelector):
    """Efficient video sampling (arXiv 2510.14624): by 1 - cosine to the same cell of the frame before.

    The rule of serving engines (`engine`): what has no frame before it ranks above all, so that the first frame stays
    whole, and the others follow over the whole video, ties to the lower index. It starves: inside a shot that stands
    still a frame keeps nothing, and where the budget is as small as one frame all others do.

    Both are mended by default. The token that changed most in each frame comes first, then the next of each, `floor`
    times. And what has no frame before it ranks above all in half of the budget only. That half goes to the tokens
    least like the mean of their frame, since nothing is known of what changed there; the others of them rank by that
    unlikeness, a distance of the same scale as a change. The budget is meant for all tokens of the video at once
    (`Whole`).

    Attributes:
        floor: the least tokens of each frame; all of a frame that has fewer. A budget that has no room for that goes
            round by round, in the last one to the frames that changed most.
        engine: vLLM's own rule and count: of T frames of N tokens `max(N, int(T N (1 - q)))`, where q is 1 - keep. A
            `keep` that is an int stays a ceiling.
    """

    floor: int = 1
    engine: bool = False

    name = "evs"
    paper = "EVS, 2510.14624"
    signal = "change of a cell from frame to frame"
    cost = "N"

    def __post_init__(self) -> None:
        object.__setattr__(self, "floor", check_floor(self.floor))

    def count(self, layout: Layout, keep: Keep) -> int | None:
        """See `Selector.count`: vLLM's, with `engine`."""
        if not self.engine or not is_video(layout):
            return None
        least = 0 if isinstance(keep, int) else layout.candidates[0]  # a ceiling is one
        return max(least, engine_count(layout, keep))

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `VideoSelector.choose`."""
        score = change(tokens)[pool]
        if self.engine:
            return pool[top_k(score, k)]
        fresh = torch.nonzero(score.isinf()).flatten()
        if len(fresh):
            score[fresh] = _unlike_their_frame(tokens, pool[fresh])
            score[fresh[top_k(score[fresh], k // 2)]] += ABOVE
        # Rounds first and scores inside them: one number for both would round the scores away.
        rounds = rank_inside(score, frames_of(tokens, pool)[0]).clamp(max=self.floor)
        order = torch.sort(score, descending=True, stable=True).indices
        order = order[torch.sort(rounds[order], stable=True).indices]
        return pool[order[:k].sort().values]


def change(tokens: VisualTokens) -> Tensor:
    """`[N]` 1 - cosine to the same cell of the frame before, in fp32; infinite where there is none."""
    rows = unit_rows(tokens.features)
    earlier = before(tokens.layout).to(rows.device)
    score = 1 - (rows * rows[earlier.clamp_min(0)]).sum(dim=1)
    return score.float().round(decimals=DIGITS).masked_fill(earlier < 0, torch.inf)


def _unlike_their_frame(tokens: VisualTokens, pool: Tensor) -> Tensor:
    """`[M]` 1 - cosine of each token of `pool` to the mean of those of its frame that are in `pool`."""
    frame, own = frames_of(tokens, pool)
    rows = unit_rows(tokens.features[pool])
    means = unit_rows(frame_means(rows, frame, own))
    return (1 - (rows * means[frame]).sum(dim=1)).float().round(decimals=DIGITS)
