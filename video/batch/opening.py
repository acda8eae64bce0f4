"""A medium made ready for a model, on the CPU: read, cut into clips, its frames chosen, and processed."""

from __future__ import annotations

import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vtc.chat import Medium, processed
from vtc.media import is_video, load_picture
from vtc.recipes import Recipe

from ..prepared import prepare
from .choices import prompt_of
from .job import Job
from .prompts import told
from .questions import SCHEMES, Group, Question


@dataclass(frozen=True)
class Opened:
    """A medium that a model can be asked about.

    Attributes:
        medium: the frames that were chosen, or the picture.
        inputs: of `prompt` and `system`, on the CPU.
        prompt, system: of the first question of the group that the model can be asked.
        recipe: what is left to do inside the model; None if nothing is.
        tokens: visual tokens of all that was to be looked at; None: those of the inputs.
        seconds: spent, by stage: `read` (looking, decoding, processing) and `segment` (clips and keyframes).
        note: what is to be told of it; empty if nothing is.
    """

    medium: Medium
    inputs: Mapping[str, Any]
    prompt: str
    system: str | None
    recipe: Recipe | None
    tokens: int | None
    seconds: dict[str, float]
    note: str = ""


def open_group(group: Group, job: Job, processor: Any, frames: int | None = None) -> Opened:
    """Reads the medium of `group`.

    Args:
        group: one of whose prompts is processed with it.
        job: says the recipe and the sampling.
        processor: of the model. It is used by one thread at a time: give each its own copy.
        frames: candidates at most, in place of the job's own.

    Raises:
        OSError: the medium cannot be read, or its reading is stuck (TimeoutError).
        ValueError: it is broken, the stretch is not there, or the recipe does not fit it; no question can be asked.
    """
    first, asker = _askable(group, processor)
    prompt = prompt_of(first, job.choices == "listed")
    with fetched(first.medium, job.timeout) as path:
        if first.picture:
            return _picture(path, asker, prompt, first.system, job)
        if not is_video(path) and path.exists():
            raise ValueError(f"{path} is no video by its ending; a picture belongs into the column 'image'")
        sampling = job.sampling(first.start, first.end, frames)
        found = prepare(path, asker, prompt, job.recipe_for(False), sampling=sampling)
    spent = found.seconds
    reading = sum(value for name, value in spent.items() if name != "choose")
    seconds = {"read": reading, "segment": spent.get("choose", 0.0)}
    lost = len(found.read.lost)
    notes = [found.broken, f"{lost} frames could not be read" if lost else ""]
    note = "; ".join(note for note in notes if note)
    return Opened(found.frames, found.inputs, prompt, first.system, found.recipe, found.tokens, seconds, note)


def _askable(group: Group, processor: Any) -> tuple[Question, Any]:
    """The first question whose system's turn the model's chat template takes, and what asks it."""
    refused: ValueError | None = None
    for system in dict.fromkeys(question.system for question in group.questions):
        try:
            asker = told(processor, system)
        except ValueError as error:
            refused = error
            continue
        return next(question for question in group.questions if question.system == system), asker
    assert refused is not None
    raise refused


def _picture(path: Path, processor: Any, prompt: str, system: str | None, job: Job) -> Opened:
    begun = time.perf_counter()
    picture = load_picture(path)
    inputs = processed(processor, [prompt], [picture])
    recipe = job.recipe_for(True)
    seconds = {"read": time.perf_counter() - begun, "segment": 0.0}
    return Opened(picture, inputs, prompt, system, replace(recipe, pictures="items"), None, seconds)


@contextmanager
def fetched(medium: str, timeout: float) -> Iterator[Path]:
    """The file of `medium`: its path, or what is fetched from its URL for the time of the block."""
    if not medium.lower().startswith(SCHEMES):
        yield Path(medium)
        return
    with tempfile.TemporaryDirectory(prefix="vtc-") as folder:
        path = Path(folder) / (Path(medium.partition("?")[0]).name or "medium")
        with urllib.request.urlopen(medium, timeout=timeout) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
        yield path
