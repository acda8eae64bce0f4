"""A medium read for a server: its frames chosen by the recipe, and what is left of it for the server to do.

No processor of the server's model is here: where the local engine counts tokens, this one goes by shares.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from vtc.core.tokens import Layout
from vtc.inference.prompting import Medium
from vtc.media.images import load_image
from vtc.media.sniffing import kind_of
from vtc.recipes.composition import Recipe
from vtc.video.batch.config import Job
from vtc.video.batch.fingerprints import medium_stamp
from vtc.video.batch.loading import fetched
from vtc.video.batch.questions import Group, Question
from vtc.video.clips.frame_features import COLOR_LAYOUT, TOWER, features
from vtc.video.clips.frame_scores import for_question, scorer
from vtc.video.qa.two_pass import measured, read_selected, select_frames
from vtc.video.stages import ClipBudget, Keyframes

SIDE = 16
"""Rows and columns of tokens that a frame is reckoned to have, where a recipe says by tokens how many frames it leaves:
what it leaves of them is the same share for any side, but for rounding."""


@dataclass(frozen=True)
class ReadMedium:
    """A medium that is on its way to a server.

    Attributes:
        medium: the frames that were chosen, or the image.
        recipe: what is left for the server to do; None: all tokens go on.
        given, chosen: frames that the stock model would have got, and those that were chosen; 1 of 1 for an image.
        stamp: of the file that was read.
        seconds: spent, by stage.
        note: what a user should know of it.
    """

    medium: Medium
    recipe: Recipe | None
    given: int
    chosen: int
    stamp: str
    seconds: dict[str, float]
    note: str = ""


def read_medium(group: Group, job: Job) -> ReadMedium:
    """Read the medium of `group`.

    Raises:
        OSError: it cannot be read, is written to meanwhile, or its reading is stuck (TimeoutError).
        ValueError: it is broken, the stretch is not there, or the recipe does not fit it.
    """
    first = group.first
    stamp = medium_stamp(first.medium)
    with fetched(first.medium, job.timeout) as path:
        found = _image(path, job, stamp) if first.image else _video(path, first, job, stamp)
    if medium_stamp(first.medium) != stamp:
        raise OSError(f"{first.medium} was changed while it was read; let nothing write to it, and ask again")
    return found


def _image(path: Path, job: Job, stamp: str) -> ReadMedium:
    begun = time.perf_counter()
    image: Image.Image = load_image(path)
    recipe = job.recipe_for(True)
    left = None if recipe.keeps_all else recipe
    return ReadMedium(image, left, 1, 1, stamp, {"read": time.perf_counter() - begun, "segment": 0.0})


def _video(path: Path, question: Question, job: Job, stamp: str) -> ReadMedium:
    if kind_of(path) == "image":
        raise ValueError(f"{path} is a still image, or an animated WebP; it belongs into the column 'image'")
    recipe = job.recipe_for(False)
    stage = recipe.input if job.reduces and isinstance(recipe.input, Keyframes) and not recipe.keeps_all else None
    sampling = job.sampling(question.start, question.end)
    info = sampling.probe(path)
    budget = recipe.allocator if isinstance(recipe.allocator, ClipBudget) else ClipBudget()
    described = COLOR_LAYOUT if stage is None or stage.features == TOWER else stage.features
    judge = scorer(stage.scorer, None, None) if stage is not None and stage.scorer is not None else None
    selected = select_frames(
        path,
        info,
        sampling,
        selector=None if stage is None else stage.selector,
        count=(lambda units: units) if stage is None else (lambda units: frames_left(recipe, units)),
        budget=budget,
        score=None if judge is None else for_question(judge, question.question),
        features=features(described, None, None),
    )
    seconds = dict(selected.seconds)
    with measured(seconds, "read"):
        frames, chosen, report = read_selected(path, selected, sampling)
    notes = (
        selected.broken,
        f"{len(report.lost)} frames could not be read" if report.lost else "",
        f"{len(report.resized)} frames were scaled to the size of the first" if report.resized else "",
        info.choice,
    )
    spent = {"read": seconds["look"] + seconds["read"], "segment": seconds["choose"]}
    left = rest(recipe, stage, selected.given, len(chosen))
    return ReadMedium(
        frames, left, selected.given, len(chosen), stamp, spent, "; ".join(note for note in notes if note)
    )


def frames_left(recipe: Recipe, units: int) -> int:
    """How many of `units` frames a recipe leaves whose tokens are not known.

    Raises:
        ValueError: its `keep` is a count of them.
    """
    check_share(recipe)
    return recipe.frames(Layout.join([Layout.of_grid(SIDE, SIDE, kind="frame")] * units))


def check_share(recipe: Recipe) -> None:
    """Refuse a count of tokens beside a stage that chooses frames.

    Raises:
        ValueError: with what to give.
    """
    if isinstance(recipe.keep, int) and isinstance(recipe.input, Keyframes):
        raise ValueError(
            f"keep={recipe.keep} is a count of tokens, and how many a frame has the server alone knows; pass a share, "
            "such as keep=0.25"
        )


def rest(recipe: Recipe, stage: Keyframes | None, given: int, chosen: int) -> Recipe | None:
    """What is left of `recipe` for each of the `chosen` frames of `given`; None if nothing is."""
    if recipe.keeps_all:
        return None
    if stage is None:
        return recipe
    stages = tuple(one for one in recipe.stages if one is not stage)
    if not stages:
        return None
    share = min(1.0, float(recipe.keep) * given / chosen) if recipe.selector else recipe.keep
    return None if share == 1.0 else replace(recipe, stages=stages, keep=share)
