"""One answer, token by token, from a thread of its own that can be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import TextIteratorStreamer

from vtc.core.token_recorder import TokenRecorder
from vtc.inference.asking import greedy
from vtc.recipes.composition import Recipe
from vtc.reduction.api import reduced
from vtc.reduction.feature_cache import FeatureCache
from vtc.reduction.report import Report

PAUSE = 0.05
"""Least seconds between two states that are passed on: a page can show no more."""


@dataclass(frozen=True)
class StreamState:
    """How far an answer has come.

    Attributes:
        text: so far.
        tokens: generated so far.
        first: seconds from the call of `generate` to the first token; None before it.
        rate: tokens a second behind the first; None while there are fewer than two.
        report: on the reduced prompt, once the answer is done; None with all tokens.
        reused: whether the encoder's answer was held from an earlier question.
        done, stopped: whether it is finished, and whether that was by `stop`.
    """

    text: str = ""
    tokens: int = 0
    first: float | None = None
    rate: float | None = None
    report: Report | None = None
    reused: bool = False
    done: bool = False
    stopped: bool = False


class TimedStreamer(TextIteratorStreamer):
    """The text of an answer piece by piece, and the times of its tokens."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.recorder = TokenRecorder()

    def put(self, value: torch.Tensor) -> None:
        """Called by `generate`, first with the prompt and then with each token."""
        self.recorder.put(value)
        super().put(value)

    def snapshot(self, text: str) -> StreamState:
        """How far the answer has come."""
        recorder = self.recorder
        rate = 1 / recorder.next if recorder.next else None
        return StreamState(text.strip(), len(recorder.tokens), recorder.first, rate)


@dataclass(frozen=True)
class InferenceLock:
    """Lock and encoder outputs that the answers of one process share: one model call at a time.

    Attributes:
        lock: held while a model works.
        features: of media that were asked about, so that a recipe reuses only what was encoded for it, and times of
            two recipes stay comparable; None: everything is encoded again.
    """

    lock: Any = field(default_factory=threading.Lock)
    features: FeatureCache | None = field(default_factory=lambda: FeatureCache(calls=16))


def answers(
    inference: InferenceLock,
    model: Any,
    processor: Any,
    inputs: Mapping[str, Any],
    recipe: Recipe | None,
    *,
    max_new_tokens: int = 64,
    stop: threading.Event | None = None,
) -> Iterator[StreamState]:
    """A greedy answer as it grows, by `recipe` or with all tokens; the last state is `done`.

    Closing the iterator stops the answer. The model is left as it was.

    Args:
        inference: of the process.
        model: a stock model that is not wrapped.
        processor, inputs: as `vtc.inference.asking.prompt` takes and makes them.
        recipe: what to keep; None: all.
        max_new_tokens: longest answer, at least 1.
        stop: set from anywhere, it ends the answer behind the token in hand.

    Raises:
        ValueError: `max_new_tokens` is below 1, or the model cannot give what the recipe needs.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens}; expected at least 1")
    stop = stop or threading.Event()
    closed, result = threading.Event(), Future[StreamState]()
    streamer = TimedStreamer(processor.tokenizer)
    job = _Job(inference, model, processor, inputs, recipe, max_new_tokens, (stop, closed), streamer)
    thread = threading.Thread(target=job.run, args=(result,), daemon=True)
    thread.start()
    try:
        yield from _spaced(streamer)
        yield result.result()
    finally:
        closed.set()
        thread.join()


def _spaced(streamer: TimedStreamer) -> Iterator[StreamState]:
    """Yield states of the answer at most every `PAUSE` seconds."""
    shown, text = 0.0, ""
    for piece in streamer:
        text, now = text + piece, time.perf_counter()
        if streamer.recorder.at and now - shown >= PAUSE:
            shown = now
            yield streamer.snapshot(text)


@dataclass(frozen=True)
class _Job:
    inference: InferenceLock
    model: Any
    processor: Any
    inputs: Mapping[str, Any]
    recipe: Recipe | None
    max_new_tokens: int
    ends: tuple[threading.Event, ...]
    streamer: TimedStreamer

    def run(self, result: Future[StreamState]) -> None:
        """Answer, and put the last state, or what went wrong, into `result`."""
        try:
            result.set_result(self._answer_in_turn())
        except BaseException as error:  # raised again where the answer is read
            result.set_exception(error)
        finally:
            self.streamer.end()  # `generate` may have failed before it did, and the reader waits for it

    def _answer_in_turn(self) -> StreamState:
        while not self.inference.lock.acquire(timeout=0.1):
            if self._ended:
                return StreamState(done=True, stopped=True)
        try:
            return self._answer()
        finally:
            self.inference.lock.release()

    def _answer(self) -> StreamState:
        features, inputs = self.inference.features, self.inputs
        before = (features.encoded, features.reused) if features else (0, 0)
        with self._at_work():
            self.streamer.recorder.begun = time.perf_counter()
            if features and not self.recipe:
                inputs = features.encoded_inputs(self.model, inputs)
            self.model.generate(
                **inputs,
                max_new_tokens=self.max_new_tokens,
                streamer=self.streamer,
                stopping_criteria=[self._stopped],
                **greedy(self.model),
            )
            report = self.model.vtc.report if self.recipe else None
        again = features is not None and features.encoded == before[0] and features.reused > before[1]
        # Decoded at once: the pieces are what could be shown before the next token was known.
        text = self.processor.tokenizer.decode(self.streamer.recorder.tokens, skip_special_tokens=True)
        return replace(self.streamer.snapshot(text), report=report, reused=again, done=True, stopped=self._ended)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Within the block the model follows the recipe, if there is one, and takes features from the cache."""
        if self.recipe is None:
            yield
            return
        features = self.inference.features
        with (
            reduced(self.model, self.recipe),
            self.model.vtc.encode_once(features) if features else nullcontext(),
        ):
            yield

    @property
    def _ended(self) -> bool:
        return any(event.is_set() for event in self.ends)

    def _stopped(self, ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(ids),), self._ended, dtype=torch.bool, device=ids.device)
