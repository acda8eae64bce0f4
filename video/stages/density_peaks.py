"""Density peaks: rows that many others are near to, and that are far from denser ones."""

from __future__ import annotations

import torch
from torch import Tensor

from vtc.stages.ops import top_k


def density_peaks(rows: Tensor, k: int, *, neighbours: int = 4) -> Tensor:
    """The `k` rows of highest density times distance (DPC-kNN, Du et al. 2016, as FastVID uses it).

    With distances `|a - b| / sqrt(D)`, the density of a row is `exp(-mean)` of the squares of the `neighbours`
    smallest, its own among them, and its distance is that to the nearest denser row, of the densest the largest of
    all. Of rows equally dense the first counts as denser, where released code adds random noise. Memory is `[n, n]`:
    this is for the tokens of one frame.

    Args:
        rows: `[n, D]`; NaN and infinity count as 0.
        k: 1 to n.
        neighbours: taken for the density; all where there are fewer.

    Returns:
        `[k]` int64, ascending.
    """
    clean = torch.nan_to_num(rows.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)
    apart = torch.cdist(clean, clean, compute_mode="donot_use_mm_for_euclid_dist") / clean.shape[1] ** 0.5
    nearest = apart.topk(min(neighbours, len(rows)), dim=1, largest=False).values
    density = torch.exp(-nearest.square().mean(dim=1))
    order = torch.sort(density, descending=True, stable=True).indices
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    denser = rank[None, :] < rank[:, None]
    distance = apart.masked_fill(~denser, torch.inf).amin(dim=1)
    distance = torch.where(rank == 0, apart.max(), distance)
    return top_k(density * distance, k)
