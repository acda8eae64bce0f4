"""Reading that runs ahead of the answers, each medium with a processor that no other thread has."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from .attempts import MEDIUM, Attempts, medium_name
from .questions import Group

M = TypeVar("M", covariant=True)


class MediaReader(Protocol[M]):
    """Interface of what reads media by groups."""

    def spare_processor(self) -> Any:
        """What a thread that reads ahead needs for itself."""

    def open(self, group: Group, *, processor: Any) -> M:
        """The medium of `group`, read by what `spare_processor` made."""


def read_ahead(
    reader: MediaReader[M], groups: Sequence[Group], workers: int, attempts: Attempts
) -> Generator[tuple[Group, Future[M]], None, None]:
    """Each group, in order, and its medium to come; `2 * workers` media are held at most, beside the one in hand.

    Each is decoded in a child process, which is ended where it is stuck; the threads here wait for those.
    """
    workers = min(workers, len(groups))  # each has a thread and a processor of its own
    processors: SimpleQueue[Any] = SimpleQueue()
    for _ in range(workers):
        processors.put(reader.spare_processor())

    def read(group: Group) -> M:
        """Open a group's medium with a processor that no other thread has."""
        processor = processors.get()
        try:
            with attempts.during([medium_name(group.first)], MEDIUM):
                return reader.open(group, processor=processor)
        finally:
            processors.put(processor)

    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="vtc-read")
    waiting: deque[tuple[Group, Future[M]]] = deque()
    try:
        for group in groups:
            waiting.append((group, pool.submit(read, group)))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
