"""Frames that stand out get more, and inside each the tokens that do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.budget import Keep
from vtc.stages.scores import unit_rows
from vtc.tokens import Layout, VisualTokens

from .film import FilmSelector, engine_count, is_film

WIDTHS = (1 / 8, 1 / 4, 1 / 2, 1, 2)
"""Twice the variances of the Gaussians by which a token is near a mean."""
DIGITS = 6


@dataclass(frozen=True)
class VidCom2(FilmSelector):
    """VidCom2 (arXiv 2505.14454): a token is redundant where it is near the mean of the video, and of its frame.

    Nearness is a sum of five Gaussians, over unit rows of the half of the channels that vary least. A frame whose
    tokens are far from the video's mean gets more: with p the softmax of that at `temperature`, frame t gets
    `r (1 + p_t - mean p)` of its tokens, rounded and at least one, r being the share that stays. At the paper's
    temperature p is nearly one-hot where frames differ at all, so that one frame gets about twice its part. Those
    counts miss the total by a token or two a frame in the authors' code; here as in vLLM the most redundant of those
    kept are then dropped, or the least redundant of the others added, over the whole video, until it is exact. The
    budget is meant for all tokens at once (`Whole`).

    Attributes:
        temperature: of the softmax; higher is more even.
        engine: vLLM's own count: of T frames of N tokens `max(T, int(T N (1 - q)))`, where q is 1 - keep.
    """

    temperature: float = 0.01
    engine: bool = False

    name = "vidcom2"
    paper = "VidCom2, 2505.14454"
    signal = "distance to the mean of the video and of the frame"
    cost = "N"

    def __post_init__(self) -> None:
        if isinstance(self.temperature, bool) or not isinstance(self.temperature, (int, float)):
            raise TypeError(f"temperature={self.temperature!r}; expected a number above 0")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature} must be finite and above 0; the paper has 0.01")
        object.__setattr__(self, "temperature", float(self.temperature))

    def count(self, layout: Layout, keep: Keep) -> int | None:
        """See `Selector.count`: vLLM's, with `engine`."""
        if not self.engine or not is_film(layout):
            return None
        least = 0 if isinstance(keep, int) else sum(1 for own in layout.candidates if own)  # a ceiling is one
        return max(least, engine_count(layout, keep))

    def choose(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """See `FilmSelector.choose`."""
        frame = torch.unique(tokens.layout.unit.to(pool.device)[pool], return_inverse=True)[1]
        own = torch.bincount(frame)
        rows = _steady_rows(tokens.features[pool])
        to_video = _nearness(rows, rows.mean(dim=0))
        means = rows.new_zeros(len(own), rows.shape[1]).index_add(0, frame, rows) / own[:, None]
        redundant = (to_video + _nearness(rows, means[frame])).round(decimals=DIGITS)
        apart = -to_video.new_zeros(len(own)).index_add(0, frame, to_video) / own
        due = self._budgets(apart, own, k / len(pool))
        return pool[_exact(redundant, frame, due, k)]

    def _budgets(self, apart: Tensor, own: Tensor, share: float) -> Tensor:
        """How many tokens each frame is due, before the total is made exact."""
        p = torch.softmax((apart - apart.max()) / self.temperature, dim=0)
        scale = (share * (1 + p - p.mean())).clamp(max=1.0)
        return (scale * own).round().long().clamp_min(1).minimum(own)


def _steady_rows(features: Tensor) -> Tensor:
    """Unit rows over the half of the channels of `features` `[N, D]` that vary least."""
    clean = torch.nan_to_num(features.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)
    spread = (clean - clean.mean(dim=0)).square().mean(dim=0)
    steady = torch.sort(spread, stable=True).indices[: max(1, features.shape[1] // 2)]
    return unit_rows(clean[:, steady.sort().values]).float()


def _nearness(rows: Tensor, mean: Tensor) -> Tensor:
    distance = (rows - mean).square().sum(dim=1)
    return torch.stack([torch.exp(-distance / (2 * width)) for width in WIDTHS]).sum(dim=0)


def _exact(redundant: Tensor, frame: Tensor, due: Tensor, k: int) -> Tensor:
    """Places of the `due` least redundant of each frame, and then `k` in all: ascending, ties to the lower place."""
    order = torch.sort(redundant, stable=True).indices
    order = order[torch.sort(frame[order], stable=True).indices]
    ordered = frame[order]
    rank = torch.arange(len(order), device=order.device) - torch.searchsorted(ordered, ordered)
    kept = torch.zeros_like(frame, dtype=torch.bool)
    kept[order[rank < due[ordered]]] = True
    lots = int(kept.sum()) - k
    inside, outside = torch.nonzero(kept).flatten(), torch.nonzero(~kept).flatten()
    if lots > 0:
        kept[inside[torch.sort(redundant[inside], descending=True, stable=True).indices[:lots]]] = False
    else:
        kept[outside[torch.sort(redundant[outside], stable=True).indices[:-lots]]] = True
    return torch.nonzero(kept).flatten()
