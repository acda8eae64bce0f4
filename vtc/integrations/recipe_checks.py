"""A recipe of a request tried on made-up tokens, so that one whose stages do not go together is refused beforehand.

Stages say what they cannot do when they meet tokens; in a server that is too late: others share the process.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch

from vtc.core.tokens import FRAMES, QUESTION, Layout, VisualTokens
from vtc.recipes.composition import Recipe
from vtc.stages import FrameSelector

WIDTH, SIDE = 8, 8
IMAGES = ((1, 1), (2, 3), (6, 6))
VIDEOS = (1, 2, 3, 4, 5, 9)
"""Frames of the videos that are tried."""


@lru_cache(maxsize=256)
def check_runs(recipe: Recipe) -> None:
    """Reduce small images and videos by `recipe`.

    Raises:
        ValueError: a stage refuses what the stages before it give, or a parameter is beyond use.
    """
    layouts = [Layout.of_grid(*size) for size in IMAGES]
    layouts += [Layout.join([Layout.of_grid(3, 4, kind="frame")] * frames) for frames in VIDEOS]
    for layout in layouts:
        try:
            _reduce(recipe, layout)
        except ValueError as error:
            if "keep=" in str(error) and isinstance(recipe.keep, int):
                continue  # of so few tokens; a request's own are counted before they are reduced
            raise
        except Exception as error:  # such as an overflow: whatever it is, a request has brought it
            raise ValueError(f"recipe {recipe.name!r} cannot run: {type(error).__name__}: {error}") from error


def _reduce(recipe: Recipe, layout: Layout) -> None:
    generator = torch.Generator().manual_seed(0)
    total = recipe.count(layout)
    units = len(layout.grids)
    frames = torch.rand(units, 2, 3, SIDE, SIDE, generator=generator)
    if isinstance(recipe.input, FrameSelector) and recipe.frames(layout) < units:
        chosen = recipe.input.choose(frames, recipe.frames(layout)).cpu()
        frames = frames[chosen]
        layout = Layout.join([Layout.of_grid(*grid[1:], kind="frame") for grid in [layout.grids[0]] * len(chosen)])
    elif recipe.input is not None and not isinstance(recipe.input, FrameSelector):
        parts = [Layout.of_grid(h, w, kind=layout.kinds[0]) for _, h, w in recipe.encoded_grids(layout)]
        layout = Layout.join(parts)
    features = torch.randn(len(layout), WIDTH, generator=generator)
    cues = {cue: torch.rand(len(layout), generator=generator) for cue in recipe.cues if cue not in (FRAMES, QUESTION)}
    cues |= {cue: torch.randn(len(layout), WIDTH, generator=generator) for cue in ("keys", "encoder_features")}
    if set(layout.kinds) == {"frame"}:
        cues[FRAMES] = frames
    if QUESTION in recipe.cues:
        cues[QUESTION] = torch.randn(3, WIDTH, generator=generator)
    tokens = VisualTokens(features, layout, cues)
    recipe.reduce(replace(tokens, key=1), min(total, sum(layout.candidates)))
