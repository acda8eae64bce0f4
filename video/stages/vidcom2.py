"""Frames that stand out get more, and inside each the tokens that do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.budget import Keep
from vtc.core.tokens import Layout, VisualTokens
from vtc.core.validation import check_number
from vtc.stages.ops import top_k, unit_rows

from .base import VideoSelector, engine_count, is_video
from .ranking import frame_means, frames_of, rank_inside

WIDTHS = (1 / 8, 1 / 4, 1 / 2, 1, 2)
"""Variances of the Gaussians by which a token is near a mean."""
DIGITS = 5
"""Decimals of a sum of ten Gaussians, which fp32 holds to one in a million."""


@dataclass(frozen=True)
class VidCom2(VideoSelector):
    """VidCom2 (arXiv 2505.14454): a token is redundant where it is near the mean of the video, and of its frame.

    Nearness is a sum of five Gaussians, over unit rows of the half of the channels that vary least. A frame whose
    tokens are far from the video's mean gets more: with p the softmax of that at `temperature`, frame t gets
    `r (1 + p_t - mean p)` of its tokens, rounded and at least one, r being the share that stays. At the paper's
    temperature p is nearly one-hot where frames differ at all, so that one frame gets about twice its part.

    Those counts miss the total by a token or two a frame in the authors' code. Here as in vLLM the most redundant of
    those kept are then dropped, or the least redundant of the others added, over the whole video, until it is exact;
    unlike there no frame loses its last token to that where the budget has one for each. The budget is meant for all
    tokens of the video at once (`Whole`).

    Attributes:
        temperature: of the softmax; higher is more even.
        engine: vLLM's own rule and count: of T frames of N tokens `max(T, int(T N (1 - q)))`, where q is 1 - keep. A
            `keep` that is an int stays a ceiling. r is that count's share, which can differ from 1 - q by less than a
            token and so, where a frame's part is close to a half, turn which frame a token goes to.
    """

    temperature: float = 0.01
    engine: bool = False

    name = "vidcom2"
    paper = "VidCom2, 2505.14454"
    signal = "distance to the mean of the video and of the frame"
    cost = "N"

    def __post_init__(self) -> None:
        expected = "a number above 0; the paper has 0.01"
        temperature = check_number("temperature", self.temperature, 0, ends="()", expected=expected)
        object.__setattr__(self, "temperature", temperature)

    def count(self, layout: Layout, keep: Keep) -> int | None:
        """See `Selector.count`: vLLM's, with `engine`."""
        if not self.engine or not is_video(layout):
            return None
        least = 0 if isinstance(keep, int) else sum(1 for own in layout.candidates if own)  # a ceiling is one
        return max(least, engine_count(layout, keep))

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `VideoSelector.choose`."""
        frame, own = frames_of(tokens, pool)
        rows = _steady_rows(tokens.features[pool])
        to_video = _nearness(rows, rows.mean(dim=0))
        redundant = (to_video + _nearness(rows, frame_means(rows, frame, own)[frame])).round(decimals=DIGITS)
        due = self._budgets(-frame_means(to_video[:, None], frame, own)[:, 0], own, k / len(pool))
        rank = rank_inside(-redundant, frame)
        if not self.engine and k >= len(own):
            redundant = redundant.masked_fill(rank == 0, -1.0)  # less than any: each frame keeps one
        return pool[_exact(redundant, rank, due[frame], k)]

    def _budgets(self, apart: Tensor, own: list[int], share: float) -> Tensor:
        """`[F]` how many tokens each frame is due, be it more than it has, before the total is made exact."""
        size = torch.tensor(own, device=apart.device)
        p = torch.softmax((apart - apart.max()) / self.temperature, dim=0)
        # Halves are met often, as p is nearly 0 or 1: what a device rounds must not decide them.
        return (share * (1 + p - p.mean()) * size).round(decimals=DIGITS).round().long().clamp_min(1)


def _steady_rows(features: Tensor) -> Tensor:
    """Unit rows over the half of the channels of `features` `[N, D]` that vary least."""
    clean = torch.nan_to_num(features.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)
    spread = clean.var(dim=0, correction=0)
    steady = torch.sort(spread, stable=True).indices[: max(1, features.shape[1] // 2)]
    return unit_rows(clean[:, steady.sort().values]).float()


def _nearness(rows: Tensor, mean: Tensor) -> Tensor:
    distance = (rows - mean).square().sum(dim=1)
    return torch.stack([torch.exp(-distance / (2 * width)) for width in WIDTHS]).sum(dim=0)


def _exact(redundant: Tensor, rank: Tensor, due: Tensor, k: int) -> Tensor:
    """Places of the tokens whose `rank` is below what their frame is `due`, and then `k` in all: ascending.

    All `[M]`. Ties go to the lower place.
    """
    kept = rank < due
    lots = int(kept.sum()) - k
    inside, outside = torch.nonzero(kept).flatten(), torch.nonzero(~kept).flatten()
    if lots > 0:
        kept[inside[top_k(redundant[inside], lots)]] = False
    else:
        kept[outside[top_k(-redundant[outside], -lots)]] = True
    return torch.nonzero(kept).flatten()
