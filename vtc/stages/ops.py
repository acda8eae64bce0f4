"""Small tensor helpers that stages share."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_rows(features: Tensor) -> Tensor:
    """`features` `[N, D]` as contiguous rows of length one, or of zeros where a row has none (zeros, NaN, infinity)."""
    features = features.detach()
    dtype = _working_dtype(features.device)
    rows = features.float().to(dtype)
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    unit = torch.div(rows, norm, out=None if rows is features else rows)
    # Squares leave the range of fp32 long before the entries do: the few such rows are first scaled by their
    # largest entry. A row without direction comes out of the two divisions as NaN, and so as zeros.
    odd = ~((norm > 1e-15) & (norm < 1e15)).squeeze(1)
    if features.device.type != "cpu":
        # Off the CPU all rows are scaled, which costs less than to ask whether any must be.
        unit = torch.where(odd[:, None], _rescaled(features.float().to(dtype)), unit)
    elif odd.any():
        unit[odd] = _rescaled(features[odd].float().to(dtype))
    return unit.contiguous()


def _rescaled(raw: Tensor) -> Tensor:
    scaled = raw / raw.abs().amax(dim=1, keepdim=True)
    return torch.nan_to_num(scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True), nan=0.0)


def _working_dtype(device: torch.device) -> torch.dtype:
    """fp32; or fp64 where the process lets fp32 matrix products run in TF32 or bf16.

    That setting (`torch.set_float32_matmul_precision`) is the user's: it is read and left alone.
    """
    backend = {"cpu": torch.backends.mkldnn, "cuda": torch.backends.cuda}.get(device.type)
    if backend is None:
        return torch.float32
    # Before torch 2.9 there is one setting for all backends.
    setting = getattr(getattr(backend, "matmul", None), "fp32_precision", None)
    setting = setting or torch.get_float32_matmul_precision()
    return torch.float32 if setting in ("none", "ieee", "highest") else torch.float64


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


def centred(values: Tensor) -> Tensor:
    """`values` `[...]` less the mean of those that are finite, fp64 on the CPU; NaN where they are not finite.

    The width keeps equal values at exactly zero, and the place keeps every device at the same answer.
    """
    exact = values.detach().cpu().double()
    exact = exact.masked_fill(~exact.isfinite(), torch.nan)
    return exact - exact.nanmean()
