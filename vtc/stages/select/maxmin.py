"""Greedy max-min dispersion on cosine distance, without comparing every token with every pick.

The rule is DivPrune's (arXiv 2503.02175, section 3), written from its description. Two facts make it cheap on
a CPU. A token's distance to the picks only ever falls, so a stale value is a bound: tokens that it rules out
are left alone, the others are brought up to date in blocks, by matrix products. Likewise the distance to the
nearest of some tokens bounds the distance to the nearest of all: few true nearest neighbours decide the first
pick.

The code speaks of cosines: the largest distance is the smallest cosine, a bound on it is a lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vtc.stages.ops import unit_rows

from .greedy import CLOSED, pick_together

BLOCK = 256
"""Tokens brought up to date together, at least; more of many, so that there are few rounds."""
EXACT = 4096
"""Up to this many tokens the first pick is exact at any price."""
SAME = 1 - 1e-6
"""Cosines from here on are one value, so that equal rows tie whatever the rounding."""


def maxmin(features: Tensor, k: int) -> Tensor:
    """Pick `k` tokens, each as far as possible from those picked before it.

    Distance is 1 - cosine, in fp32 whatever the dtype, the autocast state and the process-wide matrix product
    precision. The first pick is the token whose nearest other token is farthest; each next one is the token
    whose smallest distance to the picks is largest. Ties go to the lower index. A row of zeros, or one that
    holds NaN or infinity once in fp32, is a zero vector: cosine 0 with every row. A picked token is never
    picked again, so equal rows still give `k` indices.

    Above 4,096 tokens at most `max(k, 256)` true nearest neighbours are computed for the first pick. Where
    they do not prove it, it is the best of the tokens they belong to: a spread sample, and those that look
    most remote from it. The rest of the rule is exact at any size. At worst the time is O(N k D), or up to
    4,096 tokens O(N N D); an `[N, N]` matrix is never held. The same input gives the same answer on one
    machine at one thread count; elsewhere two scores within rounding (1e-6) may swap. Off the CPU no pick
    waits for the host.

    Args:
        features: `[N, D]`, any floating dtype, N and D at least 1.
        k: how many to pick, 1 <= k <= N.

    Returns:
        `[k]` int64 on the device of `features`, ascending and unique.

    Raises:
        TypeError: `features` is not a floating point tensor, or `k` not an int.
        ValueError: `features` is not `[N, D]`, or `k` is out of range.
    """
    return maxmin_each([features], [k])[0]


@torch.no_grad()
def maxmin_each(features: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """`maxmin` in each of several pools, the steps of all taken together off the CPU.

    Args:
        features: `[N, D]` of each pool, all of one width and device.
        counts: how many to pick in each.

    Returns:
        What `maxmin` returns of each; off the CPU two scores within rounding (1e-6) may swap with other pools beside.

    Raises:
        TypeError, ValueError: see `maxmin`.
    """
    for one, k in zip(features, counts, strict=True):
        _check(one, k)
    chosen = [torch.arange(len(one), device=one.device) for one in features]
    some = [i for i, k in enumerate(counts) if k < len(features[i])]
    if some:
        with torch.autocast(features[0].device.type, enabled=False):
            picks = _picks([unit_rows(features[i]) for i in some], [counts[i] for i in some])
        for i, own in zip(some, picks, strict=True):
            chosen[i] = own.sort().values
    return chosen


def _picks(rows: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    if rows[0].device.type == "cpu":
        return [_lazy(one, k, _first_lazy(one, k)) for one, k in zip(rows, counts, strict=True)]
    return _plain(rows, counts)


def _check(features: Tensor, k: int) -> None:
    if not isinstance(features, Tensor) or not features.is_floating_point():
        got = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(f"features must be a floating point tensor, got {got}")
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"features must have shape [N, D] with D >= 1, got {list(features.shape)}")
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"k must be an int, got {k!r} ({type(k).__name__})")
    if not 1 <= k <= len(features):
        raise ValueError(f"k must be at least 1 and at most the number of tokens, {len(features)}, got {k}")


def _lazy(rows: Tensor, k: int, first: int) -> Tensor:
    """Return the picks `[k]`, in order, on the CPU."""
    # `closest` is stale for most tokens: it is their cosine with the picks before the last few, and can only rise. So
    # it bounds the true one from below, and a token whose bound is above the smallest true value cannot be the next
    # pick. `seen` counts the picks that each value takes in.
    picks = torch.full((k,), first)
    picked = rows.new_empty(k, rows.shape[1])
    picked[0] = rows[first]
    closest = torch.mv(rows, picked[0]).clamp_(max=SAME)  # cosine with the closest of the `seen` first picks
    closest[first] = CLOSED
    seen = torch.ones(len(rows), dtype=torch.int64)
    done, size = 1, min(len(rows), max(BLOCK, len(rows) // 16))
    while done < k:
        # What is outside the block is above the bound and stays so: what is not, inside, comes first.
        bound = closest.kthvalue(size).values
        block = (closest <= bound).nonzero().squeeze(1)
        _catch_up(rows, picked[:done], block, closest, seen)
        play = block[closest[block] <= bound]
        part, cosine = rows.index_select(0, play), closest[play]
        # Below `bound` the block is a problem of its own: several picks come from it before anything else is touched.
        places = _pick_inside(cosine, part, bound.item(), k - done)
        start, done = done, done + len(places)
        picks[start:done], picked[start:done] = play[places], part[places]
        closest[play], seen[play] = cosine, done
    return picks


def _catch_up(rows: Tensor, picked: Tensor, block: Tensor, closest: Tensor, seen: Tensor) -> None:
    """Compare the block with the picks that it has not seen: those furthest behind first, by powers of four.

    No token is compared with more than four times what it missed, which keeps the whole run within O(N k D).
    """
    behind = len(picked) - seen[block]
    most = int(behind.max())
    while most > 0:
        late = block[(behind > most // 4) & (behind <= most)]
        if len(late):
            cosine = (rows.index_select(0, late) @ picked[-most:].T).amax(dim=1).clamp_(max=SAME)
            closest[late] = torch.maximum(closest[late], cosine)
        most //= 4
    seen[block] = len(picked)


def _pick_inside(cosine: Tensor, part: Tensor, bound: float, room: int) -> Tensor:
    """Pick in `part`, at most `room`, while no token outside can be farther; `cosine` follows in place."""
    places: list[int] = []
    while len(places) < min(room, len(part)):
        low, at = cosine.min(dim=0)
        if low.item() > bound:
            break
        places.append(place := int(at))
        torch.maximum(cosine, torch.mv(part, part[place]).clamp_(max=SAME), out=cosine)
        cosine[place] = CLOSED
    return torch.tensor(places, dtype=torch.int64)


def _spread(count: int, step: int, device: torch.device | None = None) -> Tensor:
    """Return one of each `step` indices below `count`, at drifting places: even ones could share an image column."""
    starts = torch.arange(0, count, step, device=device)
    drift = torch.arange(len(starts), device=device) * 0.6180339887 % 1 * step
    return (starts + drift.long()).clamp_(max=count - 1)


def _first_lazy(rows: Tensor, k: int) -> int:
    """Return the token whose nearest other token is farthest, on the CPU."""
    count = len(rows)
    limit = count if count <= EXACT else max(k, BLOCK)
    # The first pick is the token with the smallest cosine to its nearest other token. All pairs would be O(N N D): a
    # spread sample raises the lower bounds of all others, and only tokens whose bound is still below the best true
    # value are measured, the lowest first, until none can win or the budget `limit` is spent.
    closest = rows.new_full((count,), -1.0)  # a lower bound on the cosine with the nearest other token
    order, pending = torch.arange(count), torch.ones(count, dtype=torch.bool)
    sample = _spread(count, max(12, -(-2 * count // limit)))
    for start in range(0, len(sample), BLOCK // 2):
        _measure(rows, sample[start : start + BLOCK // 2], closest, torch.inf, count)
    pending[sample] = False
    limit -= len(sample)
    while limit > 0:
        known = closest.masked_fill(pending, CLOSED)
        best, place = known.min(dim=0)
        # A bound that only equals the best can still win the tie, from a lower index.
        open_ = pending & ((closest < best) | ((closest == best) & (order < place)))
        block = open_.nonzero().squeeze(1)
        if not len(block):
            break
        block = block[closest[block].topk(min(len(block), limit, BLOCK // 2), largest=False).indices]
        _measure(rows, block, closest, best.item(), max(BLOCK, count // 8))
        pending[block] = False
        limit -= len(block)
    return int(closest.masked_fill(pending, CLOSED).argmin())


def _measure(rows: Tensor, block: Tensor, closest: Tensor, best: float, width: int) -> None:
    """Compare the block with all rows, `width` at a time, and raises `closest` on both sides.

    A token that rises above `best` has lost and leaves the block; what stays to the end has its true value.
    """
    part = rows.index_select(0, block)
    for start in range(0, len(rows), width):
        near = closest[start : start + width]
        cosine = part @ rows[start : start + width].T
        own = ((block >= start) & (block < start + width)).nonzero().squeeze(1)
        cosine[own, block[own] - start] = -1.0
        torch.maximum(near, cosine.amax(dim=0).clamp_(max=SAME), out=near)
        closest[block] = torch.maximum(closest[block], cosine.amax(dim=1).clamp_(max=SAME))
        stay = (closest[block] <= best).nonzero().squeeze(1)
        if len(stay) == 0:
            return
        if len(stay) < len(block):
            block, part = block[stay], part.index_select(0, stay)


def _plain(rows: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """Return the picks of each pool, in order, by one matrix-vector product each, without a host synchronisation."""
    firsts = [_first_plain(one, k) for one, k in zip(rows, counts, strict=True)]
    return pick_together(rows, counts, firsts, start=-1.0, joined=_closest, lowest=_farthest)


def _closest(scores: Tensor, cosine: Tensor) -> Tensor:
    return torch.maximum(scores, cosine.clamp_(max=SAME))


def _farthest(scores: Tensor, done: int) -> Tensor:
    return scores.argmin(dim=1, keepdim=True)


def _first_plain(rows: Tensor, k: int) -> Tensor:
    """Return the token whose nearest other token is farthest, `[1]`, without a host synchronisation."""
    count = len(rows)
    order = torch.arange(count, device=rows.device)
    if count > EXACT:
        limit = max(k, BLOCK)
        sample = _spread(count, -(-2 * count // limit), rows.device)
        known = rows.index_select(0, sample).T
        bound = torch.cat([(rows[at : at + EXACT] @ known).amax(dim=1) for at in range(0, count, EXACT)])
        bound[sample] = -1.0  # they have met themselves; as part of the limit they are measured below
        order = bound.topk(limit, largest=False).indices.sort().values
    nearest = []
    for start in range(0, len(order), 4 * BLOCK):
        block = order[start : start + 4 * BLOCK]
        cosine = rows.index_select(0, block) @ rows.T
        nearest.append(cosine.scatter_(1, block[:, None], -1.0).amax(dim=1).clamp_(max=SAME))
    return order.index_select(0, torch.cat(nearest).argmin(dim=0, keepdim=True))
