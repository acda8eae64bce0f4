"""Greedy selection from many pools at once: a step of all costs a GPU about as much as a step of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

CLOSED = torch.inf
"""Stands in place of a score where a token may not be picked."""
HELD = 2**28
"""Numbers in the padded rows of the pools that are taken together, at most: 1 GiB in fp32, beside the rows."""


def pick_together(
    rows: Sequence[Tensor],
    counts: Sequence[int],
    firsts: Sequence[Tensor],
    *,
    start: float,
    joined: Callable[[Tensor, Tensor], Tensor],
    lowest: Callable[[Tensor, int], Tensor],
) -> list[Tensor]:
    """Pick in each pool: its first, then always the token of the lowest score, which each pick changes.

    No pick waits for the host. Pools of unequal sizes are padded, and what a pool is taken together with changes its
    cosines by rounding at most.

    Args:
        rows: `[N, D]` of each pool, of length one or zero, all of one width, dtype and device.
        counts: how many to pick in each, 1 <= k <= N.
        firsts: `[1]` int64, the first pick of each.
        start: the score of all tokens before the first pick.
        joined: from the scores `[G, M]` and the cosines `[G, M]` with what was picked last: the new scores.
        lowest: from the scores and the number of picks so far, the places `[G, 1]` of the lowest.

    Returns:
        `[k]` int64 of each pool, in the order of the picks.
    """
    picked: list[Tensor] = []
    for group in _groups(rows):
        some = [rows[i] for i in group]
        padded = pad_sequence(some, batch_first=True)
        scores = pad_sequence([one.new_full((len(one),), start) for one in some], True, CLOSED)
        pick = torch.stack([firsts[i] for i in group])
        picks = [pick]
        for done in range(1, max(counts[i] for i in group)):
            row = padded.gather(1, pick[:, :, None].expand(-1, -1, padded.shape[2]))
            scores = joined(scores, torch.bmm(padded, row.transpose(1, 2)).squeeze(2))
            scores.scatter_(1, pick, CLOSED)
            pick = lowest(scores, done)
            picks.append(pick)
        picked += [own[: counts[i]] for i, own in zip(group, torch.cat(picks, dim=1), strict=True)]
    return picked


def _groups(rows: Sequence[Tensor]) -> Iterator[range]:
    """Runs of pools whose padded rows are few enough to be held; one pool at least."""
    start, longest = 0, 0
    for i, one in enumerate(rows):
        longest = max(longest, len(one))
        if i > start and (i + 1 - start) * longest * one.shape[1] > HELD:
            yield range(start, i)
            start, longest = i, len(one)
    if rows:
        yield range(start, len(rows))
