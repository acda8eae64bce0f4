"""Base of question strategies: one model is asked about one video any number of times, and every call is counted."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from vtc.adapters import find
from vtc.core.registry import Registry
from vtc.inference.asking import answer
from vtc.inference.prompting import processed
from vtc.media.frame_times import on_device
from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.reduction.api import reduced
from vtc.reduction.report import Report
from vtc.video.qa.placeholders import placeholders


@dataclass(frozen=True)
class Call:
    """One call of the model.

    Attributes:
        purpose: what it is for, such as `answer`, `sub-question` or `describe part 2 of 3`.
        prompt, text: what the model was asked, and what it said.
        start, end: the stretch of the video that it was shown, in seconds; None: no video.
        report: what was kept of that; None where nothing was left to do inside the model.
        seconds: processing, encoding and answering.
        tokens_full, tokens_kept: visual tokens that the stock model would have read of it, and those that this one did.
    """

    purpose: str
    prompt: str
    text: str
    start: float | None
    end: float | None
    report: Report | None
    seconds: float
    tokens_full: int = 0
    tokens_kept: int = 0


class Watchable(Protocol):
    """The prepared video of a question: see the attributes of `vtc.video.Prepared`."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Of the question that it was prepared for."""

    @property
    def recipe(self) -> Recipe | None:
        """The rest of the recipe, for inside the model."""

    @property
    def frames(self) -> VideoFrames:
        """The chosen frames."""

    @property
    def temporal_patch_size(self) -> int:
        """How many of them the encoder takes as one unit."""

    @property
    def tokens(self) -> int:
        """Visual tokens that the model would have got had no frame been left out."""


class Asker:
    """Asks a model about a prepared video, or a stretch of it, by its recipe.

    Args:
        model, processor: the model is not wrapped, and left so.
        prepared: the video, and the inputs of `question` about the whole of it.
        question: what the video was prepared for; calls with other prompts are processed again.
        max_new_tokens: of an answer where a call names no other number.
        on_call: called with each call when it is done, so that a user sees that something happens.

    Attributes:
        calls: all calls so far, in order.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        prepared: Watchable,
        question: str,
        max_new_tokens: int,
        on_call: Callable[[Call], None] | None = None,
    ) -> None:
        self._model, self._processor = model, processor
        self._prepared, self._question = prepared, question
        self._longest, self._on_call = max_new_tokens, on_call
        self.calls: list[Call] = []

    @property
    def units(self) -> int:
        """How many parts of the video the encoder takes at once; no stretch is shorter than one."""
        return -(-len(self._prepared.frames) // self._prepared.temporal_patch_size)

    def ask(
        self, prompt: str, purpose: str, *, units: tuple[int, int] | None = None, max_new_tokens: int | None = None
    ) -> str:
        """Ask the model `prompt` about the video.

        Args:
            prompt: beside the video.
            purpose: for `Call`.
            units: the first unit of a stretch, and the first behind it; None: the whole video.
            max_new_tokens: of this answer.
        """
        frames = self._stretch(*(units or (0, self.units)))
        recipe = self._recipe(len(frames))
        return self._call(prompt, purpose, frames, recipe, max_new_tokens)

    def ask_blind(self, prompt: str, purpose: str, *, max_new_tokens: int | None = None) -> str:
        """Ask the model `prompt` without the video."""
        return self._call(prompt, purpose, None, None, max_new_tokens)

    def _stretch(self, first: int, end: int) -> VideoFrames:
        frames, temporal_patch_size = self._prepared.frames, self._prepared.temporal_patch_size
        part = slice(first * temporal_patch_size, end * temporal_patch_size)
        return VideoFrames(frames.pixels[part], frames.seconds[part], frames.duration)

    def _recipe(self, frames: int) -> Recipe | None:
        """The recipe, its exact count cut down to the share of the video that is shown."""
        recipe, all_frames = self._prepared.recipe, len(self._prepared.frames)
        if recipe is None or not isinstance(recipe.keep, int) or frames == all_frames:
            return recipe
        return replace(recipe, keep=max(2, round(recipe.keep * frames / all_frames)))

    def _call(
        self, prompt: str, purpose: str, frames: VideoFrames | None, recipe: Recipe | None, longest: int | None
    ) -> str:
        begun = time.perf_counter()
        given = on_device(self._model, self._inputs(prompt, frames))
        text, report = self._answer(given, recipe, longest or self._longest)
        start, end = (None, None) if frames is None else (float(frames.seconds[0]), self._end(frames))
        full = shown = placeholders(self._processor, given)
        if frames is not None and len(frames) == len(self._prepared.frames):
            full = max(shown, self._prepared.tokens)
            report = report and report.with_unread(full - shown, find(self._model).cost())
        kept = shown if report is None else report.after
        call = Call(purpose, prompt, text, start, end, report, time.perf_counter() - begun, full, kept)
        self.calls.append(call)
        if self._on_call is not None:
            self._on_call(call)
        return text

    def _inputs(self, prompt: str, frames: VideoFrames | None) -> Any:
        if frames is None:
            return processed(self._processor, [prompt])
        if prompt == self._question and len(frames) == len(self._prepared.frames):
            return self._prepared.inputs
        return processed(self._processor, [prompt], [frames])

    def _answer(self, inputs: dict[str, Any], recipe: Recipe | None, longest: int) -> tuple[str, Report | None]:
        if recipe is None:
            return answer(self._model, self._processor, inputs, longest), None
        with reduced(self._model, recipe):
            text = answer(self._model, self._processor, inputs, longest)
            return text, self._model.vtc.report

    def _end(self, frames: VideoFrames) -> float:
        """When the last frame of a stretch gives way to the next of the video."""
        after = self._prepared.frames.seconds
        later = after[after > frames.seconds[-1]]
        return float(later[0]) if len(later) else frames.duration


class Strategy(ABC):
    """How a question is asked. Its dataclass fields are its parameters."""

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    """Source: name of the method, arXiv number."""
    calls: ClassVar[str]
    """How often it calls the model, in a few words."""

    @abstractmethod
    def run(self, asker: Asker, question: str) -> str:
        """The answer to `question`; the last call of `asker` gives it."""


STRATEGIES: Registry[type[Strategy]] = Registry("strategy", plugins=True)
"""Plans by name."""


def strategy(spec: str | Strategy) -> Strategy:
    """Resolve a strategy name, or return the instance.

    Raises:
        TypeError: it is neither.
        ValueError: no strategy of that name (the nearest is suggested).
    """
    if isinstance(spec, Strategy):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"strategy={spec!r} is a {type(spec).__name__}; expected a name in STRATEGIES or a Strategy")
    return STRATEGIES.get(spec)()


def with_context(question: str, known: list[str]) -> str:
    """`question` behind what is known already, a line each; the question alone where nothing is."""
    if not known:
        return question
    return "\n".join(["What is known of the video:", *(f"- {line}" for line in known), "", question])
