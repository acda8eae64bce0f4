"""Many requests in flight at once: media are read ahead, and each answer is a row as soon as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from vtc.video.batch.ahead import read_ahead
from vtc.video.batch.attempts import ROWS, Attempts, EngineStopped
from vtc.video.batch.columns import STAGES
from vtc.video.batch.local import parted, unanswered
from vtc.video.batch.questions import Group, Question
from vtc.video.batch.rows import Row, RowMaker, Seen

PATIENCE = 0.2
"""Seconds between two looks at whether the run is to stop, while nothing but reading is under way."""


@dataclass(frozen=True)
class SharedMedium:
    """A medium as requests about it share it.

    Attributes:
        content: what the engine makes of it.
        seen: what rows say of it.
        seconds: spent on it, by stage.
    """

    content: Any
    seen: Seen
    seconds: dict[str, float]


@dataclass(frozen=True)
class Reply:
    """An engine's answer.

    Attributes:
        text: the answer.
        full, kept: visual tokens that the stock model would have read, and those that were; None: not known.
    """

    text: str
    full: int | None
    kept: int | None


class RequestEngine(Protocol):
    """Interface of what answers requests, many at once. One thread calls it, but for `open`.

    Attributes:
        make: makes its rows.
        most: requests in flight at most.
        killed_by_requests: whether a request may end this process, so that each is noted before it is begun.
    """

    make: RowMaker
    most: int
    killed_by_requests: bool

    def spare_processor(self) -> Any:
        """What a thread that reads ahead needs for itself."""

    def open(self, group: Group, *, processor: Any) -> SharedMedium:
        """The medium of `group`; any error is one of all its questions."""

    def request(self, question: Question, medium: SharedMedium) -> Any:
        """What `submit` takes of a question.

        Raises:
            ValueError: it cannot be asked.
        """

    def submit(self, name: str, request: Any) -> None:
        """Begin a request.

        Raises:
            EngineStopped: the engine has ended.
            Exception: the request is refused.
        """

    def finished(self, stop: Callable[[], bool]) -> list[tuple[str, Reply | Exception | None]]:
        """What has come since the last call, by name; it may wait a moment for something to come. None: given up, as
        the run is to stop.

        Raises:
            EngineStopped: the engine has ended over what is in flight.
            OSError, ValueError: it cannot be reached, or refuses whatever it is asked.
        """

    def drop(self) -> None:
        """Forget what is in flight."""

    def close(self) -> None:
        """Give back what the engine holds."""


@dataclass(frozen=True)
class _PendingQuestion:
    """A question in flight, and the number by which its attempt is noted, if it is."""

    question: Question
    seen: Seen
    seconds: dict[str, float | None]
    number: int | None


class InFlight:
    """A `BatchEngine` over a `RequestEngine`. Rows come in the order in which they are answered."""

    def __init__(self, engine: RequestEngine) -> None:
        self._engine = engine

    def answers(
        self,
        groups: Sequence[Group],
        done: Collection[str],
        attempts: Attempts,
        workers: int,
        stop: Callable[[], bool],
    ) -> Generator[Row, None, None]:
        """See `BatchEngine`. Asked to stop, it waits for what is in flight."""
        suspect, rest = parted(groups, done, attempts)
        for group in suspect:  # with nothing read ahead
            if stop():
                return
            left = unanswered(group, done)
            if why := attempts.refused_medium(group.first):
                yield from (self._engine.make.failed(question, why) for question in left)
                continue
            alone = [question for question in left if attempts.alone(question.id)]
            first = Group(tuple(alone or left))
            yield from self._window(done, attempts, stop, 1 if alone else self._engine.most).answers([first], 1)
            if others := [question for question in left if question not in first.questions]:
                rest.append(Group(tuple(others)))
        yield from self._window(done, attempts, stop, self._engine.most).answers(rest, workers)

    def _window(self, done: Collection[str], attempts: Attempts, stop: Callable[[], bool], most: int) -> _Window:
        return _Window(self._engine, done, attempts, stop, most)

    def close(self) -> None:
        """See `BatchEngine`."""
        self._engine.close()


class _Window:
    """Keeps up to `most` requests of some groups in flight."""

    def __init__(
        self, engine: RequestEngine, done: Collection[str], attempts: Attempts, stop: Callable[[], bool], most: int
    ) -> None:
        self._engine, self._done, self._attempts, self._stop, self._most = engine, done, attempts, stop, most
        self._flying: dict[str, _PendingQuestion] = {}
        self._next: tuple[Group, Future[SharedMedium]] | None = None
        self._ready: deque[tuple[Question, SharedMedium, int]] = deque()

    def answers(self, groups: Sequence[Group], workers: int) -> Generator[Row, None, None]:
        """The rows of `groups`."""
        try:
            with closing(read_ahead(self._engine, groups, workers, self._attempts)) as media:
                while True:
                    yield from self._fill(media)
                    if not self._flying and (self._stop() or (self._next is None and not self._ready)):
                        return
                    yield from self._landed()
        except EngineStopped:
            if not self._stop():  # Ctrl-C reaches an engine's own processes as well, and what they die of is no kill
                self._flying.clear()  # their attempts do not end
                raise
        finally:
            for asked in self._flying.values():
                self._end(asked.number)
            self._engine.drop()

    def _end(self, number: int | None) -> None:
        if number is not None:
            self._attempts.end(number)

    def _landed(self) -> Iterator[Row]:
        """The rows of what has come."""
        for name, reply in self._engine.finished(self._stop) if self._flying else ():
            asked = self._flying.pop(name)
            self._end(asked.number)
            if reply is not None:
                yield self._row(asked, reply)

    def _row(self, asked: _PendingQuestion, reply: Reply | Exception) -> Row:
        if isinstance(reply, Exception):
            return self._engine.make.failed(asked.question, reply)
        tokens = (reply.full, reply.kept)
        return self._engine.make.answered(asked.question, reply.text, asked.seen, tokens, asked.seconds)

    def _fill(self, media: Iterator[tuple[Group, Future[SharedMedium]]]) -> Iterator[Row]:
        """Begin requests until as many are in flight as may be, or a medium is not read yet while others are; the rows
        are those of questions that cannot be asked."""
        while len(self._flying) < self._most and not self._stop():
            if self._ready:
                yield from self._begin(*self._ready.popleft())
                continue
            self._next = self._next or next(media, None)
            if self._next is None:
                return
            group, future = self._next
            if not future.done():
                if self._flying:
                    return
                wait([future], timeout=PATIENCE)
                continue
            self._next = None
            yield from self._opened(group, future)

    def _opened(self, group: Group, future: Future[SharedMedium]) -> Iterator[Row]:
        asked = unanswered(group, self._done)
        error = future.exception()
        if error is None:
            self._ready.extend((question, future.result(), len(asked)) for question in asked)
        elif not self._stop():  # what children die of that decode, as Ctrl-C reaches them too, is no medium's error
            yield from (self._engine.make.failed(question, error) for question in asked)

    def _begin(self, question: Question, medium: SharedMedium, share: int) -> Iterator[Row]:
        """Begin the request of a question, of which `share` have the medium in common; a row where that fails."""
        error: BaseException | None = self._attempts.refused(question.id)
        number: int | None = None
        if error is None:
            try:
                request = self._engine.request(question, medium)
                if self._engine.killed_by_requests:
                    number = self._attempts.begin([question.id], ROWS)
                self._engine.submit(question.id, request)
            except EngineStopped:
                raise
            except Exception as failure:
                self._end(number)
                error = failure
        if error is not None:
            yield self._engine.make.failed(question, error)
            return
        read = {name: value / share for name, value in medium.seconds.items()}
        seconds = {name: read.get(name) for name in STAGES}
        self._flying[question.id] = _PendingQuestion(question, medium.seen, seconds, number)
