"""One question about a video on the page, asked by a strategy: both answers, and the calls that each took."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vtc.media.video_frames import VideoFrames
from vtc.recipes.composition import Recipe
from vtc.reduction.report import Report
from vtc.video.qa.strategies import Asker, Call
from vtc.video.qa.strategies import strategy as named_strategy
from vtc.video.qa.two_pass import temporal_patch_size_of

from .inference import Pair, PreparedQuestion
from .streaming import InferenceLock, StreamState, answers

DIRECT = "direct"


class Stopped(Exception):
    """A visitor stopped the answer."""


@dataclass(frozen=True)
class ShownVideo:
    """Video fields that an `Asker` needs; see `vtc.video.Prepared`."""

    inputs: Mapping[str, Any]
    recipe: Recipe | None
    frames: VideoFrames
    temporal_patch_size: int
    tokens: int


class Streamed(Asker):
    """An asker whose calls can be watched and stopped, and wait for the model as other answers of the page do.

    Args:
        inference: of the page.
        asked: the question about the video.
        recipe: what each call keeps; None: all.
        question: its words.
        max_new_tokens: of an answer where a call names no other number.
        stop: set from anywhere, it ends the call in hand.
        on_update: called with the answer so far.
    """

    def __init__(
        self,
        inference: InferenceLock,
        asked: PreparedQuestion,
        recipe: Recipe | None,
        question: str,
        max_new_tokens: int,
        stop: threading.Event,
        on_update: Callable[[StreamState], None],
    ) -> None:
        loaded, frames = asked.loaded, asked.opened.medium
        assert isinstance(frames, VideoFrames)
        temporal_patch_size = temporal_patch_size_of(loaded.processor)
        shown = ShownVideo(asked.inputs, recipe, frames, temporal_patch_size, asked.start.tokens.before)
        super().__init__(loaded.model, loaded.processor, shown, question, max_new_tokens)
        self._inference, self._stop, self._on_update = inference, stop, on_update
        self.last, self.tokens = StreamState(), 0

    def _answer(self, inputs: Mapping[str, Any], recipe: Recipe | None, longest: int) -> tuple[str, Report | None]:
        for update in answers(
            self._inference, self._model, self._processor, inputs, recipe, max_new_tokens=longest, stop=self._stop
        ):
            self.last = update
            # The report is of a part of the video, where that is shown: only the last call's is the answer's.
            tokens = self.tokens + update.tokens
            self._on_update(replace(update, tokens=tokens, first=None, rate=None, report=None, done=False))
        self.tokens += self.last.tokens
        if self.last.stopped or self._stop.is_set():
            raise Stopped
        return self.last.text, self.last.report


def ask_by_strategy(
    inference: InferenceLock,
    asked: PreparedQuestion,
    question: str,
    strategy: str,
    max_new_tokens: int,
    stop: threading.Event,
) -> Iterator[Pair]:
    """Both answers as they grow, call by call, first with all tokens, then by the recipe; the last pair is `done`.

    Args:
        inference, asked, max_new_tokens, stop: as `vtc.app.inference.ask` takes them.
        question: its words.
        strategy: a name in `vtc.video.qa.strategies.STRATEGIES`.

    Raises:
        ValueError: an unknown strategy, or the model cannot give what the recipe needs.
    """
    chosen, pair = named_strategy(strategy), asked.start
    for recipe in (None, pair.recipe):
        news: queue.SimpleQueue[StreamState | BaseException] = queue.SimpleQueue()
        closed = threading.Event()
        asker = Streamed(inference, asked, recipe, question, max_new_tokens, _Either(stop, closed), news.put)
        thread = threading.Thread(target=_run, args=(chosen, asker, question, news.put), daemon=True)
        thread.start()
        try:
            while True:
                update = news.get()
                if isinstance(update, BaseException):
                    raise update
                pair = _with(pair, recipe is None, update, tuple(asker.calls))
                yield pair
                if update.done:
                    break
        finally:
            closed.set()
            thread.join()
        if stop.is_set() and recipe is None:
            yield replace(pair, short=StreamState(done=True, stopped=True))
            return


class _Either(threading.Event):
    """Set where either of two is."""

    def __init__(self, one: threading.Event, other: threading.Event) -> None:
        super().__init__()
        self._both = one, other

    def is_set(self) -> bool:
        """Return whether one of them is set."""
        return any(event.is_set() for event in self._both)


def _run(
    strategy: Any, asker: Streamed, question: str, on_update: Callable[[StreamState | BaseException], None]
) -> None:
    try:
        text = strategy.run(asker, question)
        on_update(StreamState(text, asker.tokens, report=asker.last.report, reused=asker.last.reused, done=True))
    except Stopped:
        on_update(StreamState(asker.last.text, asker.tokens, done=True, stopped=True))
    except BaseException as error:  # raised again where the answer is read
        on_update(error)


def _with(pair: Pair, full: bool, update: StreamState, calls: tuple[Call, ...]) -> Pair:
    return replace(pair, full=update, full_calls=calls) if full else replace(pair, short=update, short_calls=calls)
