"""The local engine: one model of transformers answers group by group, and reading runs ahead of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from itertools import chain

from .ahead import read_ahead
from .answerer import Answerer
from .attempts import Attempts
from .config import Job
from .loading import LoadedMedium
from .questions import Group, Question
from .rows import Row


class LocalEngine:
    """A model in this process.

    Args:
        job: what to answer by.

    Raises:
        OSError, ValueError: see `Answerer`.
    """

    def __init__(self, job: Job) -> None:
        self._answerer = Answerer(job)

    def answers(
        self,
        groups: Sequence[Group],
        done: Collection[str],
        attempts: Attempts,
        workers: int,
        stop: Callable[[], bool],
    ) -> Generator[Row, None, None]:
        """See `BatchEngine`; rows come in the order of the groups."""
        suspect, rest = parted(groups, done, attempts)
        ahead = ((group, future.result) for group, future in read_ahead(self._answerer, rest, workers, attempts))
        for group, opened in chain(((group, None) for group in suspect), ahead):
            if stop():
                return
            yield from self._group(group, opened, done, attempts, stop)

    def close(self) -> None:
        """See `BatchEngine`."""

    def _group(
        self,
        group: Group,
        opened: Callable[[], LoadedMedium] | None,
        done: Collection[str],
        attempts: Attempts,
        stop: Callable[[], bool],
    ) -> Iterator[Row]:
        """The rows of a group. Where reading its medium killed a process more than once, all of them are errors."""
        why = attempts.refused_medium(group.first)
        if why is not None:
            return (self._answerer.failed(question, why) for question in unanswered(group, done))
        return self._answerer.answer(group, skip=done, opened=opened, stop=stop, attempts=attempts)


def parted(groups: Sequence[Group], done: Collection[str], attempts: Attempts) -> tuple[list[Group], list[Group]]:
    """The groups over which a process was killed, each to be read by itself, and the others."""
    suspect = [group for group in groups if attempts.suspect(unanswered(group, done))]
    return suspect, [group for group in groups if group not in suspect]


def unanswered(group: Group, done: Collection[str]) -> list[Question]:
    """The questions of a group that have no row."""
    return [question for question in group.questions if question.id not in done]
