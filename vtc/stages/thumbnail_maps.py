"""Maps from a thumbnail's tokens to places in the image."""

from __future__ import annotations

import torch
from torch import Tensor

from vtc.core.tokens import Layout, VisualTokens

from .ops import centred

ATTENTION = {"softmax": "attention", "logits": "attention_logits"}
"""The attention of the encoder, as a stage is told to read it, and the cue that it then is."""


def units_of(layout: Layout, kind: str) -> list[int]:
    """The units of a kind that have candidates."""
    return [i for i, own in enumerate(layout.candidates) if own and layout.kinds[i] == kind]


def check_attend(attend: object) -> None:
    """Raise ValueError unless `attend` is one of `ATTENTION`."""
    if attend not in ATTENTION:
        raise ValueError(f"attend={attend!r}; expected one of {', '.join(ATTENTION)}")


def attended_map(tokens: VisualTokens, unit: int, attend: str) -> Tensor:
    """Return the encoder's attention in `unit`, less the mean over its cells: `[height, width]` fp64 on the CPU.

    Cells that hold no finite value stand at the mean, which is zero. Of `softmax` the values are multiples of the mean
    attention of a cell, so that they mean the same whatever the number of cells; logits are as they are.
    """
    layout = tokens.layout
    _, height, width = layout.grids[unit]
    inside = ~layout.structural & (layout.unit == unit)
    _, y, x = layout.cell[inside].T
    raw = tokens.cue(ATTENTION[attend]).cpu()[inside]
    values = torch.nan_to_num(centred(raw), nan=0.0)
    if attend == "softmax":
        mean = float(raw.double().masked_fill(~raw.isfinite(), torch.nan).nanmean())
        values = values / mean if mean > 0 else torch.zeros_like(values)
    return values.new_zeros(height, width).index_put((y, x), values)


def overlaps(starts: Tensor, ends: Tensor, low: float, high: float, cells: int) -> Tensor:
    """Return how much of each of `cells` even cells of the stretch `low` to `high` lies in each stretch, in cells.

    Args:
        starts, ends: `[T]` fp64, the stretches.
        low, high: where the cells begin and end.
        cells: their number.

    Returns:
        `[T, cells]` fp64, each 0 to 1.
    """
    edges = torch.arange(cells, dtype=torch.float64)
    first, last = ((places[:, None] - low) / (high - low) * cells for places in (starts, ends))
    return (torch.minimum(last, edges + 1) - torch.maximum(first, edges)).clamp_min(0)


def sampled(values: Tensor, places: Tensor) -> Tensor:
    """Bilinear samples of a map at `places`, between the middles of its cells; beyond them the border's own value.

    Args:
        values: `[height, width]` fp64.
        places: `[N, 2]` fp64, (down, right) as shares of the map's size.

    Returns:
        `[N]` fp64.
    """
    size = torch.tensor(values.shape)
    at = (places * size - 0.5).clamp_min(0).minimum(size - 1.0)
    low = at.floor().long()
    high = (low + 1).minimum(size - 1)
    down, right = (at - low).T
    (y0, x0), (y1, x1) = low.T, high.T
    top = values[y0, x0].lerp(values[y0, x1], right)
    bottom = values[y1, x0].lerp(values[y1, x1], right)
    return top.lerp(bottom, down)
