"""Budgets over clips whose tokens compete with each other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from vtc.core.allocation import allocate
from vtc.core.tokens import VisualTokens
from vtc.stages import Allocator, Even
from vtc.video.clips.clip import Clip

from .base import is_video


class OverClips(Allocator):
    """Shares a video's tokens over clips by weight; inside a clip all tokens compete, whatever frame they are of.

    So what repeats from frame to frame is kept once. A subclass defines `weighed`. An item that is no video is shared
    as `even` does.
    """

    videos = True

    @abstractmethod
    def weighed(self, tokens: VisualTokens) -> tuple[Sequence[Clip], Sequence[float]]:
        """The clips, which cover the frames in order, and what each weighs, finite and at least 0."""

    def least(self, candidates: Sequence[int], total: int) -> Sequence[int]:
        """The fewest tokens of each clip, of so many candidates, which sum to `total` at most; by default none."""
        return [0] * len(candidates)

    def pools(self, tokens: VisualTokens, total: int) -> list[tuple[Tensor, int]]:
        """See `Allocator.pools`: the tokens of each clip."""
        layout = tokens.layout
        if not is_video(layout):
            return super().pools(tokens, total)
        clips, weights = self.weighed(tokens)
        free = ~layout.structural
        inside = [(layout.unit >= clip.start) & (layout.unit < clip.end) & free for clip in clips]
        candidates = [int(mask.sum()) for mask in inside]
        counts = allocate(weights, total, min_per=self.least(candidates, total), max_per=candidates)
        return [(torch.nonzero(mask).flatten(), count) for mask, count in zip(inside, counts, strict=True)]

    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """See `Allocator.allocate`, for an item that is no video."""
        return Even().allocate(tokens, total)
