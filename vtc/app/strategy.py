"""One question about a video on the page, asked by a plan: both answers, and the calls that each took."""

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
from vtc.video.qa.strategies import plan as named_plan
from vtc.video.qa.two_pass import frames_together

from .inference import Pair, PreparedQuestion
from .streaming import InferenceLock, StreamState, answers

DIRECT = "direct"


class Stopped(Exception):
    """A visitor stopped the answer."""


@dataclass(frozen=True)
class ShownVideo:
    """What an `Asker` needs of a video; see `vtc.video.Prepared`."""

    inputs: Mapping[str, Any]
    recipe: Recipe | None
    frames: VideoFrames
    together: int


class Streamed(Asker):
    """An asker whose calls can be watched and stopped, and wait for the model as other answers of the page do.

    Args:
        desk: of the page.
        asked: the question about the video.
        recipe: what each call keeps; None: all.
        question: its words.
        max_new_tokens: of an answer where a call names no other number.
        stop: set from anywhere, it ends the call in hand.
        tell: is told how far the answer has come.
    """

    def __init__(
        self,
        desk: InferenceLock,
        asked: PreparedQuestion,
        recipe: Recipe | None,
        question: str,
        max_new_tokens: int,
        stop: threading.Event,
        tell: Callable[[StreamState], None],
    ) -> None:
        player, frames = asked.player, asked.opened.medium
        assert isinstance(frames, VideoFrames)
        together = frames_together(player.processor)
        shown = ShownVideo(asked.inputs, recipe, frames, together)
        super().__init__(player.model, player.processor, shown, question, max_new_tokens)
        self._desk, self._stop, self._tell = desk, stop, tell
        self.last, self.tokens = StreamState(), 0

    def _answer(self, inputs: Mapping[str, Any], recipe: Recipe | None, longest: int) -> tuple[str, Report | None]:
        for told in answers(
            self._desk, self._model, self._processor, inputs, recipe, max_new_tokens=longest, stop=self._stop
        ):
            self.last = told
            # The report is of a part of the video, where that is shown: only the last call's is the answer's.
            tokens = self.tokens + told.tokens
            self._tell(replace(told, tokens=tokens, first=None, rate=None, report=None, done=False))
        self.tokens += self.last.tokens
        if self.last.stopped or self._stop.is_set():
            raise Stopped
        return self.last.text, self.last.report


def ask_by_plan(
    desk: InferenceLock, asked: PreparedQuestion, question: str, plan: str, max_new_tokens: int, stop: threading.Event
) -> Iterator[Pair]:
    """Both answers as they grow, call by call, first with all tokens, then by the recipe; the last pair is `done`.

    Args:
        desk, asked, max_new_tokens, stop: as `vtc.app.inference.ask` takes them.
        question: its words.
        plan: a name in `vtc.video.qa.strategies.PLANS`.

    Raises:
        ValueError: an unknown plan, or the model cannot give what the recipe needs.
    """
    chosen, pair = named_plan(plan), asked.start
    for recipe in (None, pair.recipe):
        news: queue.SimpleQueue[StreamState | BaseException] = queue.SimpleQueue()
        closed = threading.Event()
        asker = Streamed(desk, asked, recipe, question, max_new_tokens, _Either(stop, closed), news.put)
        thread = threading.Thread(target=_run, args=(chosen, asker, question, news.put), daemon=True)
        thread.start()
        try:
            while True:
                told = news.get()
                if isinstance(told, BaseException):
                    raise told
                pair = _with(pair, recipe is None, told, tuple(asker.calls))
                yield pair
                if told.done:
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
        """Whether one of them is set."""
        return any(event.is_set() for event in self._both)


def _run(plan: Any, asker: Streamed, question: str, tell: Callable[[StreamState | BaseException], None]) -> None:
    try:
        text = plan.run(asker, question)
        tell(StreamState(text, asker.tokens, report=asker.last.report, reused=asker.last.reused, done=True))
    except Stopped:
        tell(StreamState(asker.last.text, asker.tokens, done=True, stopped=True))
    except BaseException as error:  # raised again where the answer is read
        tell(error)


def _with(pair: Pair, full: bool, told: StreamState, calls: tuple[Call, ...]) -> Pair:
    return replace(pair, full=told, full_calls=calls) if full else replace(pair, short=told, short_calls=calls)
