"""From the items of a request to their kept features: count, resize, encode, select, merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from vtc.adapters import Adapter, Media
from vtc.core.tokens import (
    FRAMES,
    QUESTION,
    Embedded,
    Layout,
    Reduction,
    VisualTokens,
)
from vtc.encoder import merging
from vtc.recipes.composition import Recipe
from vtc.stages import FrameSelector, Resizer

from .feature_cache import encode
from .report import PhaseTimer

SMALL = 64
"""Pixels along a side, at most, of the frames that stages are shown."""


@dataclass(frozen=True)
class ReducedItem:
    """One item after its reduction.

    Attributes:
        media: the item as it was.
        embedded: what the language model gets, K tokens.
        reduction: in terms of the item's N tokens at full size.
    """

    media: Media
    embedded: Embedded
    reduction: Reduction


@dataclass(frozen=True)
class ItemCounts:
    """What a recipe does with one item, counted once, before any encoder runs.

    Attributes:
        media: the item.
        frames: how many of its units are encoded.
        grids: their sizes.
        total: candidates that go on.
        identity: whether the item stays untouched.
        looks: whether stages look at the pixels of its frames.
    """

    media: Media
    frames: int
    grids: tuple[tuple[int, int, int], ...]
    total: int
    identity: bool
    looks: bool

    @classmethod
    def of(cls, recipe: Recipe, media: Media) -> ItemCounts:
        """The counts of `recipe` for one item."""
        layout = media.layout
        frames, grids, total = recipe.frames(layout), recipe.encoded_grids(layout), recipe.count(layout)
        spread = recipe.encoder is not None and recipe.encoder.spread and not recipe.keeps_all
        identity = not spread and grids == layout.grids and total == sum(layout.candidates)
        looks = set(layout.kinds) == {"frame"} and (frames < len(layout.grids) or FRAMES in recipe.cues)
        return cls(media, frames, grids, total, identity, looks)


def encoder_cues(recipe: Recipe) -> tuple[str, ...]:
    """The cues that the adapter computes for `recipe`."""
    return tuple(cue for cue in recipe.cues if cue not in (QUESTION, FRAMES))


def reduce_media(
    adapter: Adapter,
    recipe: Recipe,
    counted: Sequence[ItemCounts],
    clock: PhaseTimer,
    questions: Sequence[Tensor] | None = None,
) -> list[ReducedItem]:
    """Encode the items and reduce each on its own, so that neither batch nor order matters.

    Args:
        adapter, recipe: of the model.
        counted: of the items.
        clock: takes the seconds.
        questions: `[T, D]` for each item, the embeddings of the text beside it, where the recipe asks for them.
    """
    with clock.measure("select"), torch.no_grad():
        videos = [small_frames(adapter, counts.media) if counts.looks else None for counts in counted]
        chosen = [_chosen(recipe, counts, video) for counts, video in zip(counted, videos, strict=True)]
    with clock.measure("encode"), merging(recipe.encoder, recipe.encoder_keep):
        small = [_shown(adapter, recipe, counts, some) for counts, some in zip(counted, chosen, strict=True)]
        encoded = _encode(adapter, small, encoder_cues(recipe))
    if questions is not None:
        pairs = zip(encoded, questions, strict=True)
        encoded = [replace(tokens, cues={**tokens.cues, QUESTION: question}) for tokens, question in pairs]
    encoded = [
        tokens
        if video is None
        else replace(tokens, cues={**tokens.cues, FRAMES: video if some is None else video[some]})
        for tokens, video, some in zip(encoded, videos, chosen, strict=True)
    ]
    # Scores are fp32 even where the caller runs under autocast.
    exact = torch.autocast(encoded[0].features.device.type, enabled=False)
    with clock.measure("select"), torch.no_grad(), exact:
        reductions = _reduced(recipe, counted, encoded)
    with clock.measure("merge"):
        merges = recipe.merger is not None
        embedded = [_embedded(tokens, own, merges) for tokens, own in zip(encoded, reductions, strict=True)]
    return [
        ReducedItem(counts.media, rows, _of_all(counts.media.layout, tokens, reduction, some))
        for counts, tokens, rows, reduction, some in zip(counted, encoded, embedded, reductions, chosen, strict=True)
    ]


def small_frames(adapter: Adapter, media: Media) -> Tensor:
    """The frames of a video as stages are shown them: `[T, F, 3, h, w]`, at most `SMALL` pixels a side."""
    if media.parts:
        frames = torch.stack([adapter.pixels(part) for part in media.parts])[:, None]
    else:
        frames = adapter.frames(media)
    return shrunk(frames)


def shrunk(frames: Tensor) -> Tensor:
    """Frames `[T, F, 3, H, W]` averaged down to at most `SMALL` pixels a side, fp32."""
    height, width = frames.shape[-2:]
    size = (min(height, SMALL), min(width, SMALL))
    return adaptive_avg_pool2d(frames.flatten(0, 1).float(), size).unflatten(0, frames.shape[:2])


def _chosen(recipe: Recipe, counts: ItemCounts, video: Tensor | None) -> Tensor | None:
    """The frames that are encoded, `[k]` ascending on the CPU; None for all of them.

    Raises:
        ValueError: a frame selector broke its contract.
    """
    stage, units, k = recipe.input, len(counts.media.layout.grids), counts.frames
    if not isinstance(stage, FrameSelector) or video is None or k == units:
        return None
    chosen = stage.choose(video, k).cpu()
    if len(chosen) != k or bool((chosen.diff() <= 0).any()) or int(chosen[0]) < 0 or int(chosen[-1]) >= units:
        raise ValueError(
            f"frame selector {stage.name!r} chose {chosen.tolist()} where {k} of {units} frames were due; it must "
            "return exactly k unique ones, ascending"
        )
    return chosen


def _shown(adapter: Adapter, recipe: Recipe, counts: ItemCounts, chosen: Tensor | None) -> Media:
    """The item as it is encoded."""
    media = counts.media
    if chosen is None:
        return _resized(adapter, recipe, counts)
    if media.parts:
        return Media.video([media.parts[i] for i in chosen.tolist()])
    return adapter.with_frames(media, chosen)


def _encode(adapter: Adapter, media: Sequence[Media], cues: Sequence[str]) -> list[VisualTokens]:
    """`encode`, of the images that a video is made of where it is one."""
    apart = [part for item in media for part in item.parts or (item,)]
    fresh = [part for part in apart if part.encoded is None]
    tokens = iter(encode(adapter, fresh, cues) if fresh else ())
    waiting = iter([part.encoded or next(tokens) for part in apart])
    return [_joined(item, list(islice(waiting, len(item.parts)))) if item.parts else next(waiting) for item in media]


def _joined(media: Media, frames: Sequence[VisualTokens]) -> VisualTokens:
    """The tokens of a video from those of its frames."""
    cues = {name: torch.cat([tokens.cues[name] for tokens in frames]) for name in frames[0].cues}
    planes = tuple(torch.cat(plane) for plane in zip(*(tokens.planes for tokens in frames), strict=True))
    layout = Layout.join([tokens.layout for tokens in frames])
    layout = replace(layout, kinds=media.layout.kinds)
    features = torch.cat([tokens.features for tokens in frames])
    return VisualTokens(features, layout, cues, planes=planes, folded=_side_by_side([t.folded for t in frames]))


def _side_by_side(parts: Sequence[Reduction | None]) -> Reduction | None:
    """Reductions of frames, one behind the other, as one of the video."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    tokens = [0, *accumulate(len(part.assign) for part in known)]
    outputs = [0, *accumulate(len(part) for part in known)]
    return Reduction(
        torch.cat([part.anchor + start for part, start in zip(known, tokens, strict=False)]),
        torch.cat([torch.where(p.assign < 0, -1, p.assign + o) for p, o in zip(known, outputs, strict=False)]),
        torch.cat([part.weight for part in known]),
    )


def _embedded(tokens: VisualTokens, reduction: Reduction, merges: bool) -> Embedded:
    """What the language model gets; where nothing merges the device need not be asked whether anything did."""
    made = [reduction.apply(rows) if merges else rows[reduction.anchor] for rows in (tokens.features, *tokens.planes)]
    return Embedded(made[0], tuple(made[1:]))


def _resized(adapter: Adapter, recipe: Recipe, counts: ItemCounts) -> Media:
    media = counts.media
    if not isinstance(recipe.input, Resizer) or counts.grids == media.layout.grids:
        return media
    (_, height, width) = counts.grids[0]
    if media.parts:
        return Media.video([adapter.resized(part, height, width) for part in media.parts])
    return adapter.resized(media, height, width)


def _reduced(recipe: Recipe, counted: Sequence[ItemCounts], encoded: Sequence[VisualTokens]) -> list[Reduction]:
    pairs = list(zip(counted, encoded, strict=True))
    items = [replace(tokens, key=counts.media.key) if recipe.seeded else tokens for counts, tokens in pairs]
    return recipe.reduce_each(items, [min(c.total, sum(tokens.layout.candidates)) for c, tokens in pairs])


def _of_all(full: Layout, tokens: VisualTokens, reduction: Reduction, chosen: Tensor | None) -> Reduction:
    """`reduction` of what the encoder gave in terms of all the tokens that the item has."""
    if chosen is not None:
        there = torch.nonzero(torch.isin(full.unit, chosen) | full.structural).flatten()
        return reduction.after(Reduction.pruning(there, len(full)))
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
