"""From the items of a request to their kept features: count, resize, encode, select, merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vtc.adapters import Adapter, Media

from .recipes import Recipe
from .report import Clock
from .tokens import Embedded, Layout, Reduction, VisualTokens
from .tower import merging

QUESTION = "question"
"""The one cue that comes from the prompt and not from the encoder."""


@dataclass(frozen=True)
class Reduced:
    """One item after its reduction.

    Attributes:
        media: the item as it was.
        embedded: what the language model gets, K tokens.
        reduction: in terms of the item's N tokens at full size.
    """

    media: Media
    embedded: Embedded
    reduction: Reduction


def is_identity(recipe: Recipe, media: Media) -> bool:
    """Whether `recipe` leaves the item untouched. Known before the encoder runs."""
    same_grid = recipe.encoded_grids(media.layout) == media.layout.grids
    if recipe.encoder is not None and recipe.encoder.spread:
        return False
    return not recipe.adaptive and same_grid and recipe.count(media.layout) == sum(media.layout.candidates)


def encoder_cues(recipe: Recipe) -> tuple[str, ...]:
    """The cues that the adapter computes for `recipe`."""
    return tuple(cue for cue in recipe.cues if cue != QUESTION)


def reduce_media(
    adapter: Adapter, recipe: Recipe, media: Sequence[Media], clock: Clock, questions: Sequence[Tensor] | None = None
) -> list[Reduced]:
    """Encodes the items and reduces each on its own, so that neither batch nor order matters.

    Args:
        adapter, recipe: of the model.
        media: the items.
        clock: takes the seconds.
        questions: `[T, D]` for each item, the embeddings of the text beside it, where the recipe asks for them.
    """
    with clock.measure("encode"), merging(recipe.encoder, recipe.encoder_keep):
        small = [_resized(adapter, recipe, item) for item in media]
        encoded = adapter.encode(small, encoder_cues(recipe))
    if questions is not None:
        pairs = zip(encoded, questions, strict=True)
        encoded = [replace(tokens, cues={**tokens.cues, QUESTION: question}) for tokens, question in pairs]
    # Scores are fp32 even where the caller runs under autocast.
    exact = torch.autocast(encoded[0].features.device.type, enabled=False)
    with clock.measure("select"), torch.no_grad(), exact:
        reductions = [_reduce(recipe, item, tokens) for item, tokens in zip(media, encoded, strict=True)]
    with clock.measure("merge"):
        embedded = [_embedded(tokens, reduction) for tokens, reduction in zip(encoded, reductions, strict=True)]
    return [
        Reduced(item, rows, _of_all(item.layout, tokens, reduction))
        for item, tokens, rows, reduction in zip(media, encoded, embedded, reductions, strict=True)
    ]


def _embedded(tokens: VisualTokens, reduction: Reduction) -> Embedded:
    return Embedded(reduction.apply(tokens.features), tuple(reduction.apply(plane) for plane in tokens.planes))


def _resized(adapter: Adapter, recipe: Recipe, media: Media) -> Media:
    grids = recipe.encoded_grids(media.layout)
    if grids == media.layout.grids:
        return media
    (_, height, width) = grids[0]
    return adapter.resized(media, height, width)


def _reduce(recipe: Recipe, media: Media, tokens: VisualTokens) -> Reduction:
    if recipe.seeded:
        tokens = replace(tokens, key=media.key)
    total = min(recipe.count(media.layout), sum(tokens.layout.candidates))
    return recipe.reduce(tokens, total)


def _of_all(full: Layout, tokens: VisualTokens, reduction: Reduction) -> Reduction:
    """`reduction` of what the encoder gave in terms of all the tokens that the item has."""
    if tokens.folded is not None:
        return reduction.after(tokens.folded)
    return _at_full_size(full, tokens.layout, reduction)


def _at_full_size(full: Layout, small: Layout, reduction: Reduction) -> Reduction:
    """`reduction` of a resized item in terms of its full grids: a small cell is anchored at the cell in its middle."""
    if full.grids == small.grids:
        return reduction
    # All units have one size, and tokens stand unit by unit in raster order: see `Recipe.encoded_grids`.
    (frames, height, width), (_, h, w) = full.grids[0], small.grids[0]
    t, y, x = small.cell.T
    t = small.unit * frames + t
    middle = (t * height + (2 * y + 1) * height // (2 * h)) * width + (2 * x + 1) * width // (2 * w)
    ft, fy, fx = full.cell.T
    ft = full.unit * frames + ft
    home = (ft * h + (2 * fy + 1) * h // (2 * height)) * w + (2 * fx + 1) * w // (2 * width)
    moved = reduction.to("cpu")
    return Reduction(middle[moved.anchor], moved.assign[home], torch.ones(len(full)))
