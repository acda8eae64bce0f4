"""A recipe's token stages at work on encoded items: allocate, select, merge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vtc.core.tokens import Reduction, VisualTokens
from vtc.stages import Selector
from vtc.stages.base import Pool

if TYPE_CHECKING:
    from .composition import Recipe

GOLDEN, PRIME = 0x9E3779B97F4A7C15, 0x100000001B3
"""Odd multipliers (2^64 over the golden ratio; FNV's prime), so that seeds and items make unlike numbers."""


def reduce(recipe: Recipe, items: Sequence[VisualTokens], totals: Sequence[int]) -> list[Reduction]:
    """See `Recipe.reduce_each`."""
    selector, merger = recipe.selector, recipe.merger
    cut = [i for i, own in enumerate(items) if selector is not None and totals[i] != sum(own.layout.candidates)]
    anchors: dict[int, Tensor] = {}
    if selector is not None and cut:
        chosen = _select(recipe, selector, [items[i] for i in cut], [totals[i] for i in cut])
        anchors = dict(zip(cut, chosen, strict=True))
    reductions = []
    for i, own in enumerate(items):
        if i not in anchors:
            reductions.append(Reduction.identity(len(own)).to(own.features.device))
        elif merger is None:
            reductions.append(Reduction.pruning(anchors[i], len(own)))
        else:
            reductions.append(merger.merge(own, anchors[i]))
    return reductions


def _select(recipe: Recipe, selector: Selector, items: Sequence[VisualTokens], totals: Sequence[int]) -> list[Tensor]:
    """The tokens of each item that stay, `[K]` int64, ascending: `total` candidates, or fewer of an adaptive selector.

    The pools of all items go to the selector together.
    """
    kept = [[torch.nonzero(own.layout.structural).flatten().to(own.features.device)] for own in items]
    asked: list[tuple[int, Pool]] = []
    for item, (own, total) in enumerate(zip(items, totals, strict=True)):
        for i, (pool, k) in enumerate(recipe.allocator.pools(own, total)):
            pool = pool.to(own.features.device)
            if k == len(pool):
                kept[item].append(pool)
            elif k:
                asked.append((item, Pool(own, pool, k, (recipe.seed * GOLDEN + own.key * PRIME + i) % 2**63)))
    strays = [torch.zeros((), dtype=torch.bool, device=own.features.device) for own in items]
    chosen = selector.select_each([pool for _, pool in asked])
    for (item, asked_of), picked in zip(asked, chosen, strict=True):
        kept[item].append(picked)
        strays[item] = strays[item] | ~torch.isin(picked, asked_of.members).all()
    anchors = [torch.cat(parts).sort().values for parts in kept]
    due = [total + int(own.layout.structural.sum()) for own, total in zip(items, totals, strict=True)]
    _check_contract(selector, anchors, due, strays)
    return anchors


def _check_contract(
    selector: Selector, anchors: Sequence[Tensor], due: Sequence[int], strays: Sequence[Tensor]
) -> None:
    """Raise ValueError unless each of `anchors` holds as many different tokens as were due, of the pools (no stray)."""
    odd = [(own[1:] <= own[:-1]).any() | stray for own, stray in zip(anchors, strays, strict=True)]
    many = [len(own) > n if selector.adaptive else len(own) != n for own, n in zip(anchors, due, strict=True)]
    if any(many) or bool(torch.stack(odd).any()):  # the host waits once for all items
        wrong = next(i for i, (one, other) in enumerate(zip(many, odd, strict=True)) if one or bool(other))
        raise ValueError(
            f"selector {selector.name!r} kept {len(anchors[wrong])} tokens ({len(anchors[wrong].unique())} different) "
            f"where {due[wrong]} were due{', not all of its pool' if bool(strays[wrong]) else ''}; a selector must "
            "return exactly k unique indices of its pool"
        )
