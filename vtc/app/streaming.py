"""One answer, token by token, from a thread of its own that can be stopped."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vtc.inference.asking import greedy
from vtc.recipes.composition import Recipe
from vtc.reduction.api import reduced
from vtc.reduction.pipeline import encoder_cues
from vtc.reduction.report import Report

from .encodings import Encodings

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


@dataclass
class TokenStream:
    """A streamer for `generate` that passes on what it is given, with its time."""

    tokenizer: Any
    pass_on: Callable[[StreamState], None]
    begun: float = field(default_factory=time.perf_counter)
    ids: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    prompt_seen: bool = False

    def put(self, value: torch.Tensor) -> None:
        """Called by `generate`, first with the prompt and then with each token."""
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        self.ids += value.flatten().tolist()
        self.at.append(time.perf_counter())
        self.pass_on(self.snapshot())

    def end(self) -> None:
        """Called by `generate` when it is done."""

    def snapshot(self) -> StreamState:
        """Return how far it has come."""
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True).strip()
        if not self.at:
            return StreamState(text)
        span = self.at[-1] - self.at[0]
        rate = (len(self.at) - 1) / span if span > 0 else None
        return StreamState(text, len(self.ids), self.at[0] - self.begun, rate)


@dataclass(frozen=True)
class InferenceLock:
    """Lock and encoder outputs that the answers of one process share: one model call at a time.

    Attributes:
        lock: held while a model works.
        encodings: of media that were asked about; None: everything is encoded again.
    """

    lock: Any = field(default_factory=threading.Lock)
    encodings: Encodings | None = field(default_factory=Encodings)


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
    news: queue.SimpleQueue[StreamState | BaseException] = queue.SimpleQueue()
    closed = threading.Event()
    job = _Job(inference, model, processor, inputs, recipe, max_new_tokens, (stop, closed), news.put)
    thread = threading.Thread(target=job.run, daemon=True)
    thread.start()
    try:
        yield from _spaced(news)
    finally:
        closed.set()
        thread.join()


def _spaced(news: queue.SimpleQueue[StreamState | BaseException]) -> Iterator[StreamState]:
    """Yield updates at most every `PAUSE` seconds, and always the last."""
    shown = 0.0
    while True:
        update = news.get()
        if isinstance(update, BaseException):
            raise update
        now = time.perf_counter()
        if update.done or now - shown >= PAUSE:
            shown = now
            yield update
        if update.done:
            return


@dataclass(frozen=True)
class _Job:
    inference: InferenceLock
    model: Any
    processor: Any
    inputs: Mapping[str, Any]
    recipe: Recipe | None
    max_new_tokens: int
    ends: tuple[threading.Event, ...]
    pass_on: Callable[[StreamState | BaseException], None]

    def run(self) -> None:
        """Answers, and passes on what came, or what went wrong."""
        try:
            while not self.inference.lock.acquire(timeout=0.1):
                if self._ended:
                    self.pass_on(StreamState(done=True, stopped=True))
                    return
            try:
                self.pass_on(self._answer())
            finally:
                self.inference.lock.release()
        except BaseException as error:  # raised again where the answer is read
            self.pass_on(error)

    def _answer(self) -> StreamState:
        encodings = self.inference.encodings
        reused = encodings.reused if encodings else 0
        with reduced(self.model, self.recipe) if self.recipe else nullcontext(), self._remembering():
            stream = TokenStream(self.processor.tokenizer, self.pass_on)
            self.model.generate(
                **self.inputs,
                max_new_tokens=self.max_new_tokens,
                streamer=stream,
                stopping_criteria=[self._stopped],
                **greedy(self.model),
            )
            report = self.model.vtc.report if self.recipe else None
        again = encodings is not None and encodings.reused > reused
        return replace(stream.snapshot(), report=report, reused=again, done=True, stopped=self._ended)

    def _remembering(self) -> Any:
        """Context manager: caches encoder outputs, unless a stage works inside the encoder."""
        recipe, encodings = self.recipe, self.inference.encodings
        watches = recipe is not None and (recipe.encoder is not None or bool(encoder_cues(recipe)))
        if encodings is None or watches:
            return nullcontext()
        name = f"{id(self.model)}/all" if recipe is None else f"{id(self.model)}/{recipe.to_dict()}"
        return encodings.at_work(self.model, name)

    @property
    def _ended(self) -> bool:
        return any(event.is_set() for event in self.ends)

    def _stopped(self, ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(ids),), self._ended, dtype=torch.bool, device=ids.device)
