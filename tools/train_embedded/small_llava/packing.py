"""Sequences of one image and many questions: the image is paid for once, questions do not see each other.

A sequence is a head (what stands before the questions) and `n` bins of `t` tokens. A bin holds a few whole dialogues;
each sees the head and itself, and its positions go on from the head's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BIN, BINS = 96, 4


@dataclass(frozen=True)
class Dialogue:
    """Token ids after the head, and of each the weight of its loss (0: not an answer)."""

    ids: list[int]
    weights: list[float]


@dataclass
class Bins:
    """ids, places int64 [b, n, t]; weight float32 [b, n, t]; mask [b, n, t, t], added to scores; which int64 [b, n, t].

    `places` are positions after the head's end, from 0 on. `which` numbers the dialogue of each token, -1 for padding.
    """

    ids: Tensor
    places: Tensor
    weight: Tensor
    mask: Tensor
    which: Tensor


def fill_bins(rows: Sequence[Sequence[Dialogue]], size: int = BIN, most: int | None = BINS) -> Bins:
    """Put the dialogues of each row into bins of `size` tokens or of the longest dialogue, first fit.

    What does not fit into `most` bins (None: as many as are needed) is left out.
    """
    size = max(size, *(len(d.ids) for row in rows for d in row))
    filled = [_first_fit(row, size, most) for row in rows]
    n = max(len(bins) for bins in filled)
    shape = (len(rows), n, size)
    ids, places, which = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, -1)
    weight = np.zeros(shape, np.float32)
    for i, bins in enumerate(filled):
        for j, numbers in enumerate(bins):
            at = 0
            for number in numbers:
                dialogue = rows[i][number]
                part = slice(at, at + len(dialogue.ids))
                ids[i, j, part], weight[i, j, part] = dialogue.ids, dialogue.weights
                places[i, j, part], which[i, j, part] = np.arange(len(dialogue.ids)), number
                at = part.stop
    same = which[..., :, None] == which[..., None, :]
    mask = np.where(same & np.tri(size, dtype=bool), 0.0, -1e4).astype(np.float32)
    return Bins(*(torch.from_numpy(a) for a in (ids, places, weight, mask, which)))


def _first_fit(row: Sequence[Dialogue], size: int, most: int | None) -> list[list[int]]:
    bins: list[list[int]] = []
    room: list[int] = []
    for number in range(len(row)):
        length = len(row[number].ids)
        fit = next((j for j, left in enumerate(room) if left >= length), len(bins))
        if fit == most:
            continue
        if fit == len(bins):
            bins.append([])
            room.append(size)
        bins[fit].append(number)
        room[fit] -= length
    return bins


def bin_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention of such a sequence; `mask` is that of `Bins`.

    `query` `[b, g * k, head + n * t, d]`, `key` and `value` `[b, k, head + n * t, d]`: key heads are never repeated,
    the queries that share one are laid in a row.
    """
    b, heads, s, d = query.shape
    k, (n, t) = key.shape[1], mask.shape[1:3]
    g, h = heads // k, s - n * t
    query = (query * scaling).view(b, k, g, s, d)
    head_key, head_value = key[:, :, None, :h], value[:, :, None, :h]
    first = query[:, :, :, :h].reshape(b, k, 1, g * h, d)
    causal = torch.full((h, h), -1e4, dtype=query.dtype, device=query.device).triu(1)
    scores = (first @ head_key.transpose(-1, -2)).view(b, k, g, h, h) + causal
    inside = scores.softmax(-1).view(b, k, 1, g * h, h) @ head_value

    later = query[:, :, :, h:].reshape(b, k, 1, g * n * t, d)
    to_head = (later @ head_key.transpose(-1, -2)).view(b, k, g, n, t, h)
    own = query[:, :, :, h:].reshape(b, k, g, n, t, d).transpose(2, 3).reshape(b, k, n, g * t, d)
    own_key, own_value = (x[:, :, h:].reshape(b, k, n, t, d) for x in (key, value))
    to_own = (own @ own_key.transpose(-1, -2)).view(b, k, n, g, t, t).transpose(2, 3)
    share = torch.cat([to_head, to_own + mask.to(query.dtype)[:, None, None]], -1).softmax(-1)
    outside = (share[..., :h].reshape(b, k, 1, g * n * t, h) @ head_value).view(b, k, g, n, t, d)
    mine = share[..., h:].transpose(2, 3).reshape(b, k, n, g * t, t) @ own_value
    outside = outside + mine.view(b, k, n, g, t, d).transpose(2, 3)
    out = torch.cat([inside.view(b, k, g, h, d), outside.reshape(b, k, g, n * t, d)], 3)
    return out.view(b, heads, s, d).transpose(1, 2), None
