"""Where frames are decoded: in this process, or (`isolate.py`) in a child."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from .backends import backend_class
from .decoding import DecodingTally
from .index import build
from .info import Info
from .limits import Limits
from .lost_frames import DecodingEvent, deliver


class Source(Protocol):
    """An open video."""

    @property
    def info(self) -> Info:
        """The video."""

    def events(self, wanted: Sequence[int], size: tuple[int, int], on_error: str) -> Iterator[DecodingEvent]:
        """Yield the result of each of `wanted`."""

    def close(self) -> None:
        """Free all resources; harmless when repeated."""


class Local:
    """Decoding in this process.

    Args:
        path: the video.
        limits: on it.
        backend: the name of a decoding library.
        tick: called often while something is done, as a sign of life.
        track: which track to read; None: the one that players show.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        backend: str,
        tick: Callable[[], None] = lambda: None,
        track: int | None = None,
    ) -> None:
        self._kind = backend_class(backend)
        self._path, self._limits, self._tick = path, limits, tick
        self._index = build(path, limits, tick, track)
        self._events: Iterator[DecodingEvent] = iter(())
        self._close: list[Callable[[], None]] = []

    @property
    def info(self) -> Info:
        """See `Source`."""
        return self._index.info

    def events(self, wanted: Sequence[int], size: tuple[int, int], on_error: str) -> Iterator[DecodingEvent]:
        """See `Source`."""
        views = []
        for _ in range(2):
            tally = DecodingTally(str(self._path), self._limits.failures, self._tick)
            views.append(self._kind(self._path, self._index, size, self._limits, tally))
        self._close = [view.close for view in views]
        return deliver(views[0], views[1], wanted, on_error)

    def close(self) -> None:
        """See `Source`."""
        for close in self._close:
            close()
