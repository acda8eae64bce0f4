"""A recipe's token stages at work on one encoded item: allocate, select, merge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vtc.core.tokens import Reduction, VisualTokens
from vtc.stages import Selector

if TYPE_CHECKING:
    from .composition import Recipe

GOLDEN, PRIME = 0x9E3779B97F4A7C15, 0x100000001B3
"""Odd multipliers (2^64 over the golden ratio; FNV's prime), so that seeds and items make unlike numbers."""


def reduce(recipe: Recipe, tokens: VisualTokens, total: int) -> Reduction:
    """See `Recipe.reduce`."""
    if recipe.selector is None or total == sum(tokens.layout.candidates):
        return Reduction.identity(len(tokens)).to(tokens.features.device)
    anchor = _select(recipe, recipe.selector, tokens, total)
    if recipe.merger is None:
        return Reduction.pruning(anchor, len(tokens))
    return recipe.merger.merge(tokens, anchor)


def _select(recipe: Recipe, selector: Selector, tokens: VisualTokens, total: int) -> Tensor:
    """The tokens that stay, `[K]` int64, ascending: `total` candidates, or fewer of an adaptive selector."""
    device = tokens.features.device
    picked = [torch.nonzero(tokens.layout.structural).flatten().to(device)]
    stray = torch.zeros((), dtype=torch.bool, device=device)
    for i, (pool, k) in enumerate(recipe.allocator.pools(tokens, total)):
        if k == 0:
            continue
        pool = pool.to(device)
        seed = (recipe.seed * GOLDEN + tokens.key * PRIME + i) % 2**63
        chosen = pool if k == len(pool) else selector.select(tokens, pool, k, seed=seed)
        picked.append(chosen)
        stray |= ~torch.isin(chosen, pool).all()
    anchor = torch.cat(picked).sort().values
    _check_contract(selector, anchor, total + int(tokens.layout.structural.sum()), stray)
    return anchor


def _check_contract(selector: Selector, anchor: Tensor, expected: int, stray: Tensor) -> None:
    """Raise ValueError unless `anchor` holds as many different tokens as were due, of the pools (not `stray`)."""
    wrong = len(anchor) > expected if selector.adaptive else len(anchor) != expected
    if wrong or bool((anchor[1:] <= anchor[:-1]).any() | stray):
        raise ValueError(
            f"selector {selector.name!r} kept {len(anchor)} tokens ({len(anchor.unique())} different) where "
            f"{expected} were due; a selector must return exactly k unique indices of its pool"
        )
