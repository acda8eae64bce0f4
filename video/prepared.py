"""From a video file to a model's inputs: read, cut, choose keyframes, and only then decode and process those."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vtc.budget import Keep
from vtc.chat import processed
from vtc.frames import VideoFrames
from vtc.recipes import Recipe
from vtc.recipes import recipe as named
from vtc.tokens import Layout

from .clips import Clip
from .features import ColorLayout
from .keyframes import KeyframeSelector
from .reader import Info, ReadReport, probe
from .recipes import DEFAULT
from .sampling import Sampling
from .stages import ClipBudget, Keyframes

LOOK = 128
"""Pixels of the longer side of frames that are only looked at."""

Score = Callable[[NDArray[np.uint8], str], float]
"""How much a frame, uint8 `[H, W, 3]`, has to do with a question; the higher the more, on any scale."""


@dataclass(frozen=True)
class Prepared:
    """A video as a model gets it.

    Attributes:
        inputs: what the processor made of the chosen frames and the question, on the CPU.
        recipe: what is left to do inside the model, with an exact `keep`; None if nothing is. Wrap the model with it.
        frames: the chosen frames.
        info: of the file.
        candidates: `[T]` the frames that were looked at, as units of `together` frames lie in them.
        chosen: `[k]` units that were chosen.
        together: how many frames the encoder takes as one unit.
        clips: of the units, as `ClipBudget` cuts them.
        tokens: visual tokens that all units would have had.
        read: what became of the frames that were read at full size.
        seconds: spent, by phase: `look` (decoding small frames), `choose`, `read`, `process`.
    """

    inputs: Mapping[str, Any]
    recipe: Recipe | None
    frames: VideoFrames
    info: Info
    candidates: NDArray[np.int64]
    chosen: NDArray[np.int64]
    together: int
    clips: tuple[Clip, ...]
    tokens: int
    read: ReadReport
    seconds: dict[str, float] = field(default_factory=dict)


def prepare(
    path: str | Path,
    processor: Any,
    question: str,
    recipe: str | Path | Recipe = DEFAULT,
    *,
    keep: Keep | None = None,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    selector: KeyframeSelector | None = None,
    scores: Score | None = None,
) -> Prepared:
    """Reads a video in two passes and makes a model's inputs of it.

    Candidates are looked at small; where the recipe leaves frames out (`Keyframes`), only those that it chooses are
    decoded at full size, processed and encoded. Counts are as if `reduce_tokens` alone had been given all candidates.
    A processor that writes times (Qwen3-VL) writes those of the chosen frames; one that tells its model a single rate
    (Qwen2.5-VL) spreads them evenly over the video, where `reduce_tokens` alone leaves each at its own time.

    Args:
        path: a video file.
        processor: of the model; it gets frames and their times, never the path.
        question: what is asked.
        recipe: a named recipe, a recipe file, or a recipe.
        keep: in place of the recipe's own: of all candidates' tokens.
        sampling: which frames are candidates.
        selector: chooses keyframes in place of the recipe's strategy, such as `AKS()`, which asks for `scores`.
        scores: the relevance of a frame to the question, by a model of the caller's.

    Raises:
        OSError: a file that cannot be read.
        ValueError: no video, a stretch it does not have, an unknown recipe, or one that the arguments do not fit.
    """
    if not question.strip():
        raise ValueError(f"question={question!r} is empty; ask something about the video")
    chosen_recipe = named(recipe, keep=keep)
    stage = _stage(chosen_recipe, selector)
    together = int(getattr(getattr(processor, "video_processor", None), "temporal_patch_size", 1))
    seconds: dict[str, float] = {}
    info = probe(path, limits=sampling.limits, isolated=sampling.isolated, timeout=sampling.timeout)
    with _measured(seconds, "look"):
        small, looked = _look(path, sampling, sampling.candidates(info))
    with _measured(seconds, "choose"):
        features = _units(ColorLayout().describe(small.pixels), together)
        clips = _budget(chosen_recipe).clips(features)
        count = _frames(chosen_recipe, processor, small, question, together, len(features)) if stage else len(features)
        found = None if scores is None else _units_scores(small, question, scores, together)
        units = stage.select(features, count, seconds=small.seconds[::together], scores=found) if stage else None
    chosen = np.arange(len(features)) if units is None else units
    wanted = np.concatenate([looked[u * together : (u + 1) * together] for u in chosen])
    with _measured(seconds, "read"):
        frames, read = sampling.read(path, wanted)
    with _measured(seconds, "process"):
        inputs = processed(processor, [question], [frames])
    rest, tokens = _rest(chosen_recipe, processor, inputs, len(features), len(chosen))
    return Prepared(inputs, rest, frames, info, looked, chosen, together, clips, tokens, read, seconds)


def _stage(recipe: Recipe, selector: KeyframeSelector | None) -> KeyframeSelector | None:
    """What chooses keyframes, if anything does."""
    if isinstance(recipe.input, Keyframes):
        return selector or recipe.input.selector
    if selector is not None:
        raise ValueError(
            f"selector={selector.name!r} chooses frames, and recipe {recipe.name!r} leaves none out; take one with a "
            "Keyframes stage, such as 'keyframes' or 'video'"
        )
    return None


def _budget(recipe: Recipe) -> ClipBudget:
    return recipe.allocator if isinstance(recipe.allocator, ClipBudget) else ClipBudget()


def _look(path: str | Path, sampling: Sampling, candidates: NDArray[np.int64]) -> tuple[VideoFrames, NDArray[np.int64]]:
    """The candidates, small, and which of them could be read."""
    small, report = sampling.read(path, candidates, LOOK)
    return small, np.setdiff1d(candidates, report.lost)


def _units(rows: NDArray[np.float32], together: int) -> NDArray[np.float32]:
    """Rows `[frames, D]` as rows of units `[T, together * D]`; a last unit that is not full repeats its last frame."""
    missing = -len(rows) % together
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]).reshape(-1, together * rows.shape[1])


def _units_scores(small: VideoFrames, question: str, score: Score, together: int) -> NDArray[np.float64]:
    """The best score of each unit's frames."""
    found = np.array([score(frame, question) for frame in small.pixels], dtype=np.float64)
    missing = -len(found) % together
    return np.concatenate([found, np.repeat(found[-1:], missing)]).reshape(-1, together).max(axis=1)


def _film(units: int, each: int) -> Layout:
    return Layout.join([Layout.of_grid(1, each, kind="frame")] * units)


def _frames(recipe: Recipe, processor: Any, small: VideoFrames, question: str, together: int, units: int) -> int:
    """How many units the recipe leaves of so many, by the tokens that one takes."""
    one = VideoFrames(small.pixels[:together], small.seconds[:together], small.duration)
    return recipe.frames(_film(units, _placeholders(processor, processed(processor, [question], [one]))))


def _placeholders(processor: Any, inputs: Mapping[str, Any]) -> int:
    known = [getattr(processor, f"{kind}_token_id", None) for kind in ("image", "video")]
    return int(torch.isin(inputs["input_ids"], torch.tensor([token for token in known if token is not None])).sum())


def _rest(
    recipe: Recipe, processor: Any, inputs: Mapping[str, Any], units: int, chosen: int
) -> tuple[Recipe | None, int]:
    """What the model has yet to do, and how many visual tokens all units would have had."""
    each = _placeholders(processor, inputs) // chosen
    pictures = "items" if "pixel_values_videos" in inputs else "frames"
    if not isinstance(recipe.input, Keyframes):
        return replace(recipe, pictures=pictures), units * each
    stages = tuple(stage for stage in recipe.stages if stage is not recipe.input)
    if not stages:
        return None, units * each
    kept = min(chosen * each, recipe.count(_film(units, each))) if recipe.selector else recipe.keep
    return replace(recipe, stages=stages, keep=kept, pictures=pictures), units * each


@contextmanager
def _measured(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = time.perf_counter() - start
