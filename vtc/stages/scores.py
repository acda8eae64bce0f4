"""Small tensor helpers that stages share."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_rows(features: Tensor) -> Tensor:
    """`features` `[N, D]` as fp32 rows of length one; zero rows and rows that hold NaN or infinity become zero."""
    rows = features.detach().float()
    rows = torch.where(torch.isfinite(rows).all(dim=1, keepdim=True), rows, rows.new_zeros(()))
    # Scaling by the largest entry first keeps the squares of very large or very small rows in range.
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def top_k(scores: Tensor, k: int) -> Tensor:
    """Places of the `k` highest of `scores` `[N]`, ascending; ties go to the lower place, NaN counts as lowest."""
    clean = torch.nan_to_num(scores.detach().float(), nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return torch.sort(clean, descending=True, stable=True).indices[:k].sort().values


def nearest_rows(rows: Tensor, targets: Tensor, *, block: int = 2048) -> Tensor:
    """For each of `rows` `[M, D]` the place of the `targets` row `[K, D]` of highest dot product, in blocks of rows.

    Ties go to the lower place. Memory is `block x K`, never `M x K`.
    """
    chunks = [(rows[i : i + block] @ targets.T).argmax(dim=1) for i in range(0, len(rows), block)]
    return torch.cat(chunks) if chunks else rows.new_zeros(0, dtype=torch.int64)
