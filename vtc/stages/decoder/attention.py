"""Attention of chosen tokens of one row in one layer, computed for those queries alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Attention:
    """Queries and keys of one layer, of one row of the batch.

    Attributes:
        query: `[H, R, d]` rotated queries: of the text, then of the item's own tokens if they were asked for.
        key: `[G, S, d]` rotated keys; each serves H / G heads.
        visible: `[R, S]` bool, which keys each query may see.
        words: how many of the queries are text.
        own: `[N]` int64, the keys of the item's candidate tokens.
        text: `[T]` int64, the keys of the row's text that this call brought, without what opens the prompt before any
            image.
        query_angles, own_angles: (cos, sin), each `[R, r]` and `[N, r]`: the rotations, of the first r of d.
        scaling: what products are multiplied with.
    """

    query: Tensor
    key: Tensor
    visible: Tensor
    words: int
    own: Tensor
    text: Tensor
    query_angles: tuple[Tensor, Tensor]
    own_angles: tuple[Tensor, Tensor]
    scaling: float

    def blocks(self, size: int = 256) -> Iterator[tuple[slice, Tensor]]:
        """Softmax over all visible keys, fp32 `[H, r, S]`, for `size` queries at a time."""
        for start in range(0, self.query.shape[1], size):
            rows = slice(start, start + size)
            scores = self._products(self.query[:, rows], self.key)
            yield rows, scores.masked_fill(~self.visible[None, rows], -torch.inf).softmax(dim=-1)

    def to_own(self) -> Tensor:
        """`[H, R, N]` attention to the item's tokens, softmax over all visible keys."""
        return torch.cat([part[..., self.own] for _, part in self.blocks()], dim=1)

    def mean_to_own(self, rows: Tensor) -> Tensor:
        """`[N]` what the queries `rows` give to the item's tokens, mean over heads and queries, block by block."""
        few = replace(self, query=self.query[:, rows], visible=self.visible[rows])
        total = self.query.new_zeros(len(self.own), dtype=torch.float32)
        for _, part in few.blocks(32):
            total += part[..., self.own].sum(dim=(0, 1))
        return total / few.query[:, :, 0].numel()

    def without_rotation(self) -> Tensor:
        """`[H, R, N]` attention to the item's tokens as if all stood at one place, softmax over these alone.

        Rotations that are scaled (YaRN) leave a common factor, which is divided out.
        """
        query = unrotated(self.query, *self.query_angles)
        key = unrotated(self.key[:, self.own], *self.own_angles)
        return self._products(query, key).softmax(dim=-1)

    def _products(self, query: Tensor, key: Tensor) -> Tensor:
        groups = query.shape[0] // key.shape[0]
        wide = key.float().repeat_interleave(groups, dim=0)
        return query.float() @ wide.transpose(1, 2) * self.scaling


def unrotated(values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Undo a rotary embedding of the two halves of the first r entries: `[H, n, d]`, angles `[n, r]`, fp32."""
    values, cos, sin = values.float(), cos.float(), sin.float()
    width = cos.shape[-1]
    turned, rest = values[..., :width], values[..., width:]
    low, high = turned.chunk(2, dim=-1)
    back = turned * cos - torch.cat([-high, low], dim=-1) * sin
    return torch.cat([back / (cos.square() + sin.square()), rest], dim=-1)
