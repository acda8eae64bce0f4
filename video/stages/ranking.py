"""Helpers of video selectors: frames of a pool, their means, and ranks inside them."""

from __future__ import annotations

import torch
from torch import Tensor

from vtc.core.tokens import VisualTokens


def frames_of(tokens: VisualTokens, pool: Tensor) -> tuple[Tensor, list[int]]:
    """`[M]` the frame of each token of `pool`, numbered from 0 in order, and how many tokens each frame has there."""
    frame = torch.unique(tokens.layout.unit.to(pool.device)[pool], return_inverse=True)[1]
    return frame, torch.bincount(frame).tolist()


def frame_means(rows: Tensor, frame: Tensor, own: list[int]) -> Tensor:
    """`[F, D]` the mean row of each frame, for `rows` `[M, D]`.

    One frame at a time, since sums by index depend on the order in which a GPU adds: equal frames have equal means.
    """
    order = torch.sort(frame, stable=True).indices
    return torch.stack([part.mean(dim=0) for part in rows[order].split(own)])


def rank_inside(score: Tensor, frame: Tensor) -> Tensor:
    """`[M]` int64 how many tokens of its own frame come before each: those of a higher score, and ties of lower place.

    Args:
        score: `[M]`, no NaN.
        frame: `[M]`, see `frames_of`.
    """
    order = torch.sort(score, descending=True, stable=True).indices
    order = order[torch.sort(frame[order], stable=True).indices]
    ordered = frame[order]
    rank = torch.empty_like(frame)
    rank[order] = torch.arange(len(frame), device=frame.device) - torch.searchsorted(ordered, ordered)
    return rank
