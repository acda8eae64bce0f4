"""A medium made ready for a model, on the CPU: read, cut into clips, its frames chosen, and processed."""

from __future__ import annotations

import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from vtc.inference.prompting import Medium, processed
from vtc.media.images import load_image
from vtc.media.sniffing import kind_of
from vtc.recipes.composition import Recipe
from vtc.video.qa.preparing import prepare

from .config import Job
from .fingerprints import medium_stamp
from .matching.choices import correct, prompt_of
from .prompts import with_system_prompt
from .questions import SCHEMES, Group, Question

LARGEST, PART = 8 << 30, 1 << 20
"""Bytes that are fetched from an address at most, and at once."""


@dataclass(frozen=True)
class LoadedMedium:
    """A medium that a model can be asked about.

    Attributes:
        medium: the frames that were chosen, or the image.
        inputs: of `prompt` and `system`, on the CPU.
        prompt, system: of the first question of the group that the model can be asked.
        recipe: what is left to do inside the model; None if nothing is.
        tokens: visual tokens of all that was to be looked at; None: those of the inputs.
        stamp: of the file that was read, see `medium_stamp`.
        seconds: spent, by stage: `read` (looking, decoding, processing) and `segment` (clips and keyframes).
        note: what a user should know of it; empty if nothing.
        temporal_patch_size: how many frames the encoder takes as one unit.
    """

    medium: Medium
    inputs: Mapping[str, Any]
    prompt: str
    system: str | None
    recipe: Recipe | None
    tokens: int | None
    stamp: str
    seconds: dict[str, float]
    note: str = ""
    temporal_patch_size: int = 1


def open_group(group: Group, job: Job, processor: Any, frames: int | None = None, model: Any = None) -> LoadedMedium:
    """Read the medium of `group`.

    Args:
        group: one of whose prompts is processed with it.
        job: says the recipe and the sampling.
        processor: of the model. It is used by one thread at a time: give each its own copy.
        frames: candidates at most, in place of the job's own.
        model: of the processor, where frames are described or scored by it. It may be at work in another thread.

    Raises:
        OSError: the medium cannot be read, is written to meanwhile, or its reading is stuck (TimeoutError).
        ValueError: it is broken, the stretch is not there, or the recipe does not fit it; no question can be asked.
    """
    stamp = medium_stamp(group.first.medium)
    opened = _read(group, job, processor, frames, stamp, model)
    if medium_stamp(group.first.medium) != stamp:
        raise OSError(f"{group.first.medium} was changed while it was read; let nothing write to it, and ask again")
    return opened


def _read(group: Group, job: Job, processor: Any, frames: int | None, stamp: str, model: Any) -> LoadedMedium:
    first, asker = _askable(group, processor)
    prompt = prompt_of(first, job.choices == "listed")
    with fetched(first.medium, job.timeout) as path:
        if first.image:
            return _image(path, asker, prompt, first.system, job, stamp)
        if kind_of(path) == "image":
            raise ValueError(f"{path} is a still image, or an animated WebP; it belongs into the column 'image'")
        sampling = job.sampling(first.start, first.end, frames)
        found = prepare(path, asker, prompt, job.recipe_for(False), sampling=sampling, model=model)
    spent = found.seconds
    reading = sum(value for name, value in spent.items() if name != "choose")
    seconds = {"read": reading, "segment": spent.get("choose", 0.0)}
    lost = len(found.read.lost)
    resized = len(found.read.resized)
    notes = [
        found.broken,
        f"{lost} frames could not be read" if lost else "",
        f"{resized} frames were scaled to the size of the first" if resized else "",
        found.info.choice,
    ]
    note = "; ".join(note for note in notes if note)
    return LoadedMedium(
        *(found.frames, found.inputs, prompt, first.system, found.recipe, found.tokens, stamp, seconds, note),
        temporal_patch_size=found.temporal_patch_size,
    )


def refused(question: Question, processor: Any) -> ValueError | None:
    """Return why a question cannot be asked, found before anything is read or run; None where it can."""
    tokens = {getattr(processor, f"{kind}_token", None) for kind in ("image", "video")}
    texts = (question.question, question.system or "", *question.choices)
    held = [token for token in tokens if isinstance(token, str) and any(token in text for text in texts)]
    if held:
        return ValueError(
            f"the question holds {held[0]!r}, which stands for a medium; leave it out: it is put in place"
        )
    try:
        correct("", None, question)
    except ValueError as error:
        return error
    return None


def _askable(group: Group, processor: Any) -> tuple[Question, Any]:
    """The first question whose system's turn the model's chat template takes, and what asks it."""
    errors = [refused(question, processor) for question in group.questions]
    good = [question for question, error in zip(group.questions, errors, strict=True) if error is None]
    for system in dict.fromkeys(question.system for question in good):
        try:
            asker = with_system_prompt(processor, system)
        except ValueError as error:
            errors.append(error)
            continue
        return next(question for question in good if question.system == system), asker
    raise next(error for error in errors if error is not None)


def _image(path: Path, processor: Any, prompt: str, system: str | None, job: Job, stamp: str) -> LoadedMedium:
    begun = time.perf_counter()
    image = load_image(path)
    inputs = processed(processor, [prompt], [image])
    recipe = job.recipe_for(True)
    seconds = {"read": time.perf_counter() - begun, "segment": 0.0}
    return LoadedMedium(image, inputs, prompt, system, replace(recipe, images_as="items"), None, stamp, seconds)


@contextmanager
def fetched(medium: str, timeout: float) -> Iterator[Path]:
    """The file of `medium`: its path, or what is fetched from its URL for the time of the block."""
    if not medium.lower().startswith(SCHEMES):
        yield Path(medium)
        return
    with tempfile.TemporaryDirectory(prefix="vtc-") as folder:
        path = Path(folder) / (Path(medium.partition("?")[0]).name or "medium")
        with urllib.request.urlopen(medium, timeout=timeout) as answer, path.open("wb") as file:
            _copied(answer, file, medium)
        yield path


def _copied(answer: IO[bytes], file: IO[bytes], medium: str) -> None:
    """Copy what an address answers to `file`.

    Raises:
        ValueError: it is larger than any medium should be, so that it would fill the disk.
    """
    size = 0
    while part := answer.read(PART):
        size += len(part)
        if size > LARGEST:
            raise ValueError(f"{medium}: holds more than {LARGEST >> 30} GiB; download it and give the file")
        file.write(part)
