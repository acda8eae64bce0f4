"""From a video file to a model's inputs: read, cut, choose keyframes, and only then decode and process those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vtc.core.budget import Keep
from vtc.core.tokens import Layout
from vtc.inference.prompting import processed
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe as named
from vtc.recipes.video import DEFAULT
from vtc.video.clips.clip import Clip
from vtc.video.clips.frame_features import (
    COLOR_LAYOUT,
    TOWER,
    FrameFeatures,
    features,
)
from vtc.video.clips.frame_scores import (
    FrameScorer,
    Score,
    for_question,
    scorer,
)
from vtc.video.keyframes import KeyframeSelector
from vtc.video.reading import Info, ReadReport
from vtc.video.reading.sampling import Progress, Sampling
from vtc.video.stages import ClipBudget, Keyframes

from .low_res_scan import LOOK
from .two_pass import (
    measured,
    read_selected,
    select_frames,
    temporal_patch_size_of,
)

__all__ = ["LOOK", "Prepared", "Score", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """A video as a model gets it.

    Attributes:
        inputs: what the processor made of the chosen frames and the question, on the CPU.
        recipe: what is left to do inside the model, with an exact `keep`; None if nothing is. Wrap the model with it.
        frames: the chosen frames.
        info: of the file.
        candidates: `[T]` the frames that were looked at, as units of `temporal_patch_size` frames lie in them.
        chosen: `[k]` units that were chosen.
        temporal_patch_size: how many frames the encoder takes as one unit.
        clips: of the units, as `ClipBudget` cuts them.
        tokens: visual tokens that the model would have got had no frame been left out: those of all units of a video
            that is looked at by its candidates, of a longer one those of `Sampling.frames` frames.
        read: what became of the frames that were read at full size.
        seconds: spent, by phase: `look` (decoding small frames), `choose`, `read`, `process`.
        look: what became of the frames that were to be looked at.
        broken: why a part of the video could not be looked at; empty where all of it was.
    """

    inputs: Mapping[str, Any]
    recipe: Recipe | None
    frames: VideoFrames
    info: Info
    candidates: NDArray[np.int64]
    chosen: NDArray[np.int64]
    temporal_patch_size: int
    clips: tuple[Clip, ...]
    tokens: int
    read: ReadReport
    seconds: dict[str, float] = field(default_factory=dict)
    look: ReadReport = field(default_factory=lambda: ReadReport(0))
    broken: str = ""


def prepare(
    path: str | Path,
    processor: Any,
    question: str,
    recipe: str | Path | Recipe = DEFAULT,
    *,
    keep: Keep | None = None,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    selector: KeyframeSelector | None = None,
    scores: Score | str | None = None,
    progress: Progress | None = None,
    model: Any = None,
) -> Prepared:
    """Read a video in two passes and make a model's inputs of it.

    Candidates are looked at small; where the recipe leaves frames out (`Keyframes`), only those that it chooses are
    decoded at full size, processed and encoded. Counts are as if `reduce_tokens` alone had been given all candidates.
    A processor that writes timestamps (Qwen3-VL, GLM-4V) writes those of the chosen frames, in the time of the video;
    Qwen2.5-VL places each unit of frames at its own time after the first one (`vtc.media.frame_times`).

    A video that is longer than its candidates reach is looked at `sampling.look` times a second, and such a recipe
    chooses from all of that: as many frames as it leaves of the candidates, so that `keep` is still a share of their
    tokens, and never more than evenly spaced frames would have had. One that leaves no frame out gets the candidates.
    Small frames go by one after the other, and what is held does not grow with them but for their features
    (`vtc.video.qa.low_res_scan`). Of a video that breaks on the way, what can be read is used, and `broken` says what
    happened.

    Args:
        path: a video file.
        processor: of the model; it gets frames and their times, never the path.
        question: what is asked.
        recipe: a named recipe, a recipe file, or a recipe.
        keep: in place of the recipe's own: of all candidates' tokens.
        sampling: which frames are candidates, and how many more are looked at.
        selector: chooses keyframes in place of the recipe's strategy, such as `AKS()`, which asks for `scores`.
        scores: the relevance of a frame to the question, by a function of the caller's, which sees frames small, or by
            name, as `Keyframes.scorer` has it; None: the recipe's own.
        progress: called with what is done: the phase (`look`, `choose`, `read`, `process`), how far, and of how much.
        model: of the processor, where the recipe describes or scores frames by it (`tower`, `model`).

    Raises:
        OSError: a file that cannot be read, or no space for the features of a long one.
        ValueError: no video, a stretch it does not have, an unknown recipe, or one that the arguments do not fit.
    """
    if not question.strip():
        raise ValueError(f"question={question!r} is empty; ask something about the video")
    chosen_recipe = named(recipe, keep=keep)
    stage = _stage(chosen_recipe, selector)
    temporal_patch_size = temporal_patch_size_of(processor)
    tell = progress or _tell_nobody
    rule = _features(chosen_recipe, model, processor)
    judge = _judge(chosen_recipe, stage, scores, model, processor)
    info = sampling.probe(path)
    each = _each(processor, info, question, temporal_patch_size) if stage else 0
    selected = select_frames(
        path,
        info,
        sampling,
        temporal_patch_size=temporal_patch_size,
        selector=stage,
        count=lambda units: chosen_recipe.frames(_video(units, each)) if stage else units,
        budget=_budget(chosen_recipe),
        score=for_question(judge, question) if judge is not None else None,
        features=rule,
        progress=progress,
    )
    seconds = selected.seconds
    with measured(seconds, "read"):
        frames, chosen, read = read_selected(path, selected, sampling, progress)
    tell("process", 0, 1)
    with measured(seconds, "process"):
        inputs = processed(processor, [question], [frames])
    tell("process", 1, 1)
    rest, tokens = _rest(chosen_recipe, processor, inputs, selected.given, len(chosen))
    return Prepared(
        inputs,
        rest,
        frames,
        info,
        selected.scanned,
        chosen,
        temporal_patch_size,
        selected.clips,
        tokens,
        read,
        seconds,
        selected.report,
        selected.broken,
    )


def _stage(recipe: Recipe, selector: KeyframeSelector | None) -> KeyframeSelector | None:
    """Return the keyframe selector, or None."""
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


def _features(recipe: Recipe, model: Any, processor: Any) -> FrameFeatures:
    """Return the features of scanned frames."""
    name = recipe.input.features if isinstance(recipe.input, Keyframes) else _budget(recipe).features
    # Where no frame is left out the tower sees them all later, and nothing but the shown clips depends on it here.
    return features(
        COLOR_LAYOUT if name == TOWER and not isinstance(recipe.input, Keyframes) else name, model, processor
    )


def _judge(
    recipe: Recipe, stage: KeyframeSelector | None, scores: Score | str | None, model: Any, processor: Any
) -> FrameScorer | Score | None:
    """Return the frame scorer for a selector that needs scores."""
    own = recipe.input.scorer if isinstance(recipe.input, Keyframes) else None
    given = own if scores is None else scores
    if scores is not None and (stage is None or not stage.asks):
        raise ValueError(
            f"scores={scores!r} go with keyframes by the question; take a selector that asks, such as keyframes='aks', "
            "or leave scores out"
        )
    if stage is None or given is None or not stage.asks:
        return None
    return scorer(given, model, processor) if isinstance(given, str) else given


def _tell_nobody(phase: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""


def _video(units: int, each: int) -> Layout:
    return Layout.join([Layout.of_grid(1, each, kind="frame")] * units)


def _each(processor: Any, info: Info, question: str, temporal_patch_size: int) -> int:
    """Return how many tokens a unit of the video takes at full size, by one that is black."""
    black = np.zeros((temporal_patch_size, info.height, info.width, 3), np.uint8)
    one = VideoFrames(black, np.arange(temporal_patch_size, dtype=np.float64), info.duration)
    return _placeholders(processor, processed(processor, [question], [one]))


def _placeholders(processor: Any, inputs: Mapping[str, Any]) -> int:
    known = [getattr(processor, f"{kind}_token_id", None) for kind in ("image", "video")]
    return int(torch.isin(inputs["input_ids"], torch.tensor([token for token in known if token is not None])).sum())


def _rest(
    recipe: Recipe, processor: Any, inputs: Mapping[str, Any], units: int, chosen: int
) -> tuple[Recipe | None, int]:
    """Return the rest of the recipe, for inside the model, and the visual tokens of all units together."""
    each = _placeholders(processor, inputs) // chosen
    images_as = "items" if "pixel_values_videos" in inputs else "frames"
    if not isinstance(recipe.input, Keyframes):
        return replace(recipe, images_as=images_as), units * each
    stages = tuple(stage for stage in recipe.stages if stage is not recipe.input)
    if not stages:
        return None, units * each
    kept = min(chosen * each, recipe.count(_video(units, each))) if recipe.selector else recipe.keep
    return replace(recipe, stages=stages, keep=kept, images_as=images_as), units * each
