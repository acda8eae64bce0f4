"""A reading: frames one after the other, and the account of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from .info import Info
from .lost_frames import DecodingEvent
from .sources import Source


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        index: its place in the video.
        seconds: when it is shown, counted from the video's first frame.
        pixels: `[H, W, 3]` uint8 RGB, contiguous, upright; the caller's own.
    """

    index: int
    seconds: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class ReadReport:
    """Report on the requested frames.

    Attributes:
        asked: how many there are.
        delivered: how many have come so far, replaced ones among them.
        lost: those that could not be read and were left out.
        replaced: with `on_error="nearest"`, for each frame that could not be read the one whose image came instead.
        damaged: delivered ones that were decoded after a failure, up to the next keyframe: they may show traces of it.
        resized: delivered ones that were stored in another size than the first of the video, and were scaled to that of
            the others.
        decode_failures: packets that could not be decoded.
        seeks: jumps inside of the file.
        seconds: spent waiting for frames, from opening the file on.
    """

    asked: int
    delivered: int = 0
    lost: tuple[int, ...] = ()
    replaced: dict[int, int] = field(default_factory=dict)
    damaged: tuple[int, ...] = ()
    decode_failures: int = 0
    seeks: int = 0
    seconds: float = 0.0
    resized: tuple[int, ...] = ()


class Reading:
    """Frames of one video, ascending, decoded as they are asked for; nothing is kept.

    A context manager and an iterator, to be gone through once. Closing it ends the child that decodes, if any.

    Attributes:
        info: the video.
        indices: `[n]` int64: the frames asked for.
    """

    def __init__(
        self,
        info: Info,
        indices: NDArray[np.int64],
        events: Iterator[DecodingEvent],
        source: Source,
        on_error: str,
        spent: float,
    ) -> None:
        self.info, self.indices = info, indices
        self._events, self._source, self._on_error = events, source, on_error
        self._spent, self._delivered, self._failures, self._seeks = spent, 0, 0, 0
        self._lost: list[int] = []
        self._damaged: list[int] = []
        self._resized: list[int] = []
        self._replaced: dict[int, int] = {}
        self._closed = False

    @property
    def report(self) -> ReadReport:
        """The account up to now; what it says does not change when reading goes on."""
        return ReadReport(
            len(self.indices),
            self._delivered,
            tuple(self._lost),
            dict(self._replaced),
            tuple(self._damaged),
            self._failures,
            self._seeks,
            self._spent,
            tuple(self._resized),
        )

    def __iter__(self) -> Reading:
        return self

    def __next__(self) -> Frame:
        """The next frame.

        Raises:
            ValueError: a frame is lost and `on_error` is "raise"; too many failures; the reading is closed.
            OSError: the child died, or made no progress within its time.
        """
        if self._closed:
            raise ValueError(f"the reading of {self.info.path} is closed; call frames(...) again")
        begun = time.perf_counter()
        try:
            for event in self._events:
                if (frame := self._note(event)) is not None:
                    return frame
        except BaseException:
            self.close()
            raise
        finally:
            self._spent += time.perf_counter() - begun
        self._source.close()  # all is read; a closed source gives no more, and `next` says so again
        raise StopIteration

    def _note(self, event: DecodingEvent) -> Frame | None:
        self._failures, self._seeks = event.failures, event.seeks
        if event.pixels is None:
            self._lost.append(event.index)
            if self._on_error == "raise":
                raise ValueError(
                    f"{self.info.path}: frame {event.index} cannot be read ({self._delivered} of {len(self.indices)} "
                    'were delivered before it); on_error="skip" leaves such frames out'
                )
            return None
        if event.source != event.index:
            self._replaced[event.index] = event.source
        if event.suspect:
            self._damaged.append(event.index)
        if event.resized:
            self._resized.append(event.index)
        self._delivered += 1
        return Frame(event.index, float(self.info.seconds[event.index]), event.pixels)

    def close(self) -> None:
        """End the reading; harmless when repeated. The report stays."""
        self._closed = True
        self._source.close()

    def __enter__(self) -> Reading:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
