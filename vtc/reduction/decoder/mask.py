"""Remaps the model's own attention mask, of logical positions, to a layer that holds only some of them.

The mask is gathered and never rebuilt: what the model put into it (padding, packed sequences, image tokens that see
each other, sliding windows) stays as it is, whatever its rule was.
"""

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
    """Return the mask of the keys in `slots` and the remaining queries.

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
    # A shortened static cache has unfilled slots whose positions lie behind the mask's last column: clamped, then
    # hidden.
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
    """Return a plain causal mask: None, which kernels take for causal, unless there are fillers to hide.

    Remaining tokens keep their order, so causal by slot is causal by position.
    """
    if slots.valid is None:
        return None
    if "flash" in implementation:
        return slots.valid
    seen = (slots.position[:, None] <= queries[:, :, None]) & slots.valid[:, None]
    if implementation == "eager":
        return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)[:, None]
    return seen[:, None]
