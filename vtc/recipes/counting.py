"""How many tokens of an item go on: integer arithmetic, known before any encoder runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtc.core.budget import Budget
from vtc.core.tokens import Layout
from vtc.stages import FrameSelector, Resizer

if TYPE_CHECKING:
    from .composition import Recipe

Grids = tuple[tuple[int, int, int], ...]


def encoded_grids(recipe: Recipe, layout: Layout) -> Grids:
    """See `Recipe.encoded_grids`."""
    if recipe.keeps_all:
        return layout.grids
    if isinstance(recipe.input, Resizer):
        return _resized_grids(recipe, recipe.input, layout)
    return layout.grids[: frames(recipe, layout)]


def frames(recipe: Recipe, layout: Layout) -> int:
    """See `Recipe.frames`."""
    units, stage = len(layout.grids), recipe.input
    is_video = set(layout.kinds) == {"frame"} and any(layout.candidates)
    if not isinstance(stage, FrameSelector) or not is_video or recipe.keeps_all:
        return units
    if len(set(layout.grids)) > 1:
        raise ValueError(
            f"stages={recipe.labels}: frames have unlike sizes {sorted(set(layout.grids))}, so that no count is "
            "known before some are left out; give all frames one size"
        )
    if stage.own_share is not None:
        return Budget(stage.own_share).count(units)
    return _affordable_frames(recipe, units, layout.candidates[0])


def _affordable_frames(recipe: Recipe, units: int, each: int) -> int:
    """How many of `units` frames of `each` candidates `keep` has room for."""
    count = Budget(recipe.keep).count(units * each)
    if recipe.selector is not None:
        return -(-count // each)
    if isinstance(recipe.keep, int) and count < each:
        raise ValueError(
            f"keep={recipe.keep} is less than the {each} tokens of one frame, and stages={recipe.labels} keep whole "
            f"frames; raise it to {each} or more, or add a selector such as KCenter()"
        )
    return max(1, count // each)


def _resized_grids(recipe: Recipe, stage: Resizer, layout: Layout) -> Grids:
    if layout.structural.any() or len(set(layout.grids)) > 1:
        raise ValueError(
            f"stages={recipe.labels}: an input stage cannot resize an item with structural tokens or units of unlike "
            "size; use a selector"
        )
    keep = recipe.keep if stage.own_share is None else stage.own_share
    thick, height, width = layout.grids[0]
    units = len(layout.grids)
    count = Budget(keep).count(sum(layout.candidates))
    if count < units * thick:
        raise ValueError(
            f"keep={keep} leaves {count} tokens for {units * thick} frames, and stages={recipe.labels} "
            "drops none of them: keep at least one token a frame, or use a selector"
        )
    height, width = stage.target((thick, height, width), count // units)
    return ((thick, height, width),) * units


def count(recipe: Recipe, layout: Layout) -> int:
    """See `Recipe.count`."""
    candidates = sum(layout.candidates)
    if recipe.keeps_all:
        return candidates
    encoded = sum(t * h * w for t, h, w in encoded_grids(recipe, layout)) if recipe.input else candidates
    if recipe.encoder is not None and not recipe.encoder.spread:
        encoded = Budget(recipe.encoder_keep).count(encoded)
    if recipe.selector is None:
        return encoded
    own = recipe.selector.count(layout, recipe.keep)
    return min(encoded, Budget(recipe.keep).count(candidates) if own is None else own)
