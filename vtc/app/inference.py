"""One question on the page: both answers, and what they cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from vtc.adapters.decoders import decoder_of
from vtc.core.flops import DecoderCost
from vtc.inference.asking import Seconds, prompt, timed, unknown_words
from vtc.recipes.composition import Recipe
from vtc.reduction.api import reduced
from vtc.video.qa.strategies import Call

from .media import OpenMedium
from .state import AppState, LoadedModel
from .streaming import InferenceLock, StreamState, answers
from .token_count import Count, count

LONGEST = 512
"""Tokens of an answer, at most."""
ROUNDS, LEAST = 9, 3
"""Timed runs of each kind behind the answers, at most; and as many as are made before patience counts."""
PATIENCE, LONG = 3.0, 20.0
"""Seconds after which no further round is begun, and those after which none is, were it the second."""


@dataclass(frozen=True)
class Pair:
    """Both answers to a question, as far as they have come.

    Attributes:
        full, short: with all tokens, and by the recipe; that of the recipe begins when the other is done.
        recipe: what was kept.
        tokens: visual tokens, known before any model runs.
        prompt: tokens of the whole prompt, unreduced.
        kv_full: bytes of keys and values of the prompt, with all tokens, by arithmetic.
        kv_short: the same by the recipe; None until its answer is done.
        notes: what a visitor ought to know.
        full_calls, short_calls: where a strategy asks, the calls that each answer took so far.
        times: medians of warm runs with all tokens and by the recipe, taken in turns once both have answered; None
            where none were made.
        rounds: runs of either kind that they are of.
        measuring: whether such runs are being made.
        apart: whether the middle halves of the times to the first token of both kinds do not overlap; None where there
            are no such runs.
    """

    full: StreamState
    short: StreamState
    recipe: Recipe
    tokens: Count
    prompt: int
    kv_full: int
    kv_short: int | None = None
    notes: tuple[str, ...] = ()
    full_calls: tuple[Call, ...] = ()
    short_calls: tuple[Call, ...] = ()
    times: tuple[Seconds, Seconds] | None = None
    rounds: int = 0
    measuring: bool = False
    apart: bool | None = None

    @property
    def done(self) -> bool:
        """Whether both are finished."""
        return self.short.done


@dataclass(frozen=True)
class MediumQuestion:
    """A visitor's question.

    Attributes:
        path: of the image or video; None where none was uploaded.
        text: the question.
        recipe, keep: by name, and the share of visual tokens.
        video: whether it is a video.
        max_new_tokens: longest answer.
    """

    path: str | None
    text: str
    recipe: str
    keep: float
    video: bool
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        if not isinstance(self.max_new_tokens, int) or not 1 <= self.max_new_tokens <= LONGEST:
            raise ValueError(f"max_new_tokens={self.max_new_tokens!r}; expected an int from 1 to {LONGEST}")


@dataclass(frozen=True)
class PreparedQuestion:
    """A question, ready for the model: what `opened` and `inputs` are about is known, and nothing was encoded yet."""

    loaded: LoadedModel
    opened: OpenMedium
    inputs: Mapping[str, Any]
    start: Pair


def prepared(state: AppState, question: MediumQuestion) -> PreparedQuestion:
    """Open the medium and make the prompt.

    Raises:
        OSError, ValueError: what is wrong with the medium, the question, the recipe or `keep`, with the remedy.
    """
    loaded = state.loaded(question.video)
    recipe = state.recipe(question.recipe, question.keep, video=question.video)
    opened = state.open(question.path, recipe, video=question.video)
    inputs = prompt(loaded.model, loaded.processor, opened.medium, question.text)
    tokens = count(recipe, state.layouts(question.path, recipe, video=question.video))
    length = int(inputs["input_ids"].shape[1])
    cost = DecoderCost.of(decoder_of(loaded.model), loaded.model.dtype.itemsize)
    notes = (*opened.notes, *_word_notes(loaded, question.text), *_recipe_notes(recipe))
    start = Pair(StreamState(), StreamState(), recipe, tokens, length, cost.cached_bytes(length), None, notes)
    return PreparedQuestion(loaded, opened, inputs, start)


def ask(
    inference: InferenceLock,
    asked: PreparedQuestion,
    max_new_tokens: int,
    stop: threading.Event,
    full: StreamState | None = None,
) -> Iterator[Pair]:
    """Both answers as they grow, first with all tokens, then by the recipe; the last pair is `done`.

    Args:
        inference: of the page.
        asked: the question.
        max_new_tokens: longest answer.
        stop: set from anywhere, it ends both.
        full: the answer with all tokens, where it is known; it is not asked for again.

    Raises:
        ValueError: the model cannot give what the recipe needs.
    """
    pair, loaded = replace(asked.start, full=full or StreamState()), asked.loaded
    answered = partial(
        answers, inference, loaded.model, loaded.processor, asked.inputs, max_new_tokens=max_new_tokens, stop=stop
    )
    for update in answered(None) if full is None else ():
        pair = replace(pair, full=update)
        yield pair
    if stop.is_set():
        yield replace(pair, short=StreamState(done=True, stopped=True))
        return
    for update in answered(pair.recipe):
        pair = replace(pair, short=update)
        if update.report is not None:
            pair = replace(pair, kv_short=pair.kv_full - update.report.bytes_saved)
        yield pair


def ask_and_measure(
    inference: InferenceLock, asked: PreparedQuestion, max_new_tokens: int, stop: threading.Event
) -> Iterator[Pair]:
    """`ask`, and at the end the last pair once more with the times of warm runs."""
    pair = asked.start
    for pair in ask(inference, asked, max_new_tokens, stop):
        yield pair
    if pair.done and not pair.short.stopped:
        yield replace(pair, measuring=True)
        yield measured(inference, asked, pair, stop)


def measured(inference: InferenceLock, asked: PreparedQuestion, pair: Pair, stop: threading.Event) -> Pair:
    """`pair`, once both have answered, with the times of warm runs; without, where the answer was stopped."""
    model = asked.loaded.model
    full, short = interleaved(inference, model, [(asked.inputs, None), (asked.inputs, pair.recipe)], stop)
    if not full:
        return pair
    apart = _apart([one.first for one in full], [one.first for one in short])
    return replace(pair, times=(middle(full), middle(short)), rounds=len(full), apart=apart)


def interleaved(
    inference: InferenceLock,
    model: Any,
    calls: Sequence[tuple[Mapping[str, Any], Recipe | None]],
    stop: threading.Event,
) -> list[list[Seconds]]:
    """The times of warm runs of each call, taken in turns: at most `ROUNDS` of each.

    `LEAST` are made, and no more once they have taken `PATIENCE` seconds; fewer once they have taken `LONG`, none where
    `stop` is set before the first round has ended.

    Args:
        calls: inputs of the model, and by which recipe it reads them; None: all tokens.
    """
    taken: list[list[Seconds]] = [[] for _ in calls]
    begun = time.perf_counter()
    for number in range(ROUNDS):
        if number and time.perf_counter() - begun > (LONG if number < LEAST else PATIENCE):
            break
        found = []
        for inputs, recipe in calls:
            if stop.is_set():
                return taken
            with inference.lock, nullcontext() if recipe is None else reduced(model, recipe):
                found.append(timed(model, inputs))
        for times, one in zip(taken, found, strict=True):
            times.append(one)
    return taken


def middle(times: Sequence[Seconds]) -> Seconds:
    """The medians of several runs."""
    return Seconds(median(one.first for one in times), median(one.next for one in times))


def _apart(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the middle halves of two samples do not overlap."""
    (low, high), (less, more) = (np.quantile(sample, (0.25, 0.75)) for sample in (one, other))
    return bool(high < less or more < low)


def _word_notes(loaded: LoadedModel, text: str) -> list[str]:
    words = ", ".join(map(repr, unknown_words(loaded.processor, text)))
    return [f"{loaded.name} has no {words} among its words; the answers may be off"] if words else []


def _recipe_notes(recipe: Recipe) -> list[str]:
    if recipe.only_decoder:
        return [f"{recipe.name} drops tokens inside the language model by its own schedule; keep is not used"]
    if recipe.adaptive:
        return [f"{recipe.name} decides by content how many tokens it keeps: the number before the run is the most"]
    return []
