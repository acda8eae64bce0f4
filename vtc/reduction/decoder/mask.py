"""The model's own attention mask, of logical positions, for a layer that holds only some of them."""

from __future__ import annotations

import torch
from torch import Tensor

from .sparse_cache import KeptPositions


def remapped(
    mask: Tensor | None,
    slots: KeptPositions,
    rows: Tensor | None,
    queries: Tensor,
    implementation: str,
    dtype: torch.dtype,
) -> Tensor | None:
    """The mask of the keys in `slots` and the queries that are left.

    Args:
        mask: the model's: `[B or 1, 1, q, k]` bool (True: seen) or float (added), `[B, k]`, or None for plain causal.
        slots: the logical position of each key.
        rows: `[B, n]` the places, among the call's q queries, of those that are left; None where all are.
        queries: `[B, n]` their logical positions.
        implementation: of attention; flash attention takes two-dimensional masks, eager attention takes no None.
        dtype: of float masks.
    """
    if mask is None:
        return _built(slots, queries, implementation, dtype)
    position, valid = slots.position.to(mask.device), slots.valid
    inside = position < mask.shape[-1]
    if valid is not None:
        inside = inside & valid.to(mask.device)
    column = position.clamp(max=mask.shape[-1] - 1)
    if mask.ndim == 2:
        return mask.gather(1, column) & inside if mask.dtype == torch.bool else mask.gather(1, column) * inside
    mask = mask.expand(len(position), *mask.shape[1:])
    if rows is not None:
        mask = mask.gather(2, rows.to(mask.device)[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3]))
    mask = mask.gather(3, column[:, None, None].expand(-1, *mask.shape[1:3], -1))
    inside = inside[:, None, None]
    return mask & inside if mask.dtype == torch.bool else mask.masked_fill(~inside, torch.finfo(mask.dtype).min)


def _built(slots: KeptPositions, queries: Tensor, implementation: str, dtype: torch.dtype) -> Tensor | None:
    """What a plain causal mask becomes: none, unless there are fillers that no query may see."""
    if slots.valid is None:
        return None
    if "flash" in implementation:
        return slots.valid
    seen = (slots.position[:, None] <= queries[:, :, None]) & slots.valid[:, None]
    if implementation == "eager":
        return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)[:, None]
    return seen[:, None]
