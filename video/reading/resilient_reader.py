"""The frames of a video one after the other, also behind where it breaks, and one account of all readings of them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from . import Frame, Reading, ReadReport

READINGS = 12
"""Readings of one video at most, of which each begins behind the break that ended the one before."""

Open = Callable[[NDArray[np.int64]], Reading]
"""Opens a reading of frames, ascending, that leaves out those that are lost."""


class Stream:
    """An iterator over frames, to be gone through once; a context manager, whose end ends the reading.

    A reading that is given up for too many failures is followed by another from a keyframe further on. Each that brings
    nothing doubles the step to the next, so that a long gap is crossed, and the end reached, soon. A child that died or
    hangs would again: behind that nothing is read.

    Args:
        path: of the video, for messages.
        indices: frames, ascending, each once; at least one.
        open_: opens a reading of some of them.
    """

    def __init__(self, path: str, indices: NDArray[np.int64], open_: Open) -> None:
        self._path, self._indices, self._open = path, indices, open_
        self._seen: list[int] = []
        self._readings: list[ReadReport] = []
        self._errors: list[Exception] = []
        self._frames = self._all()
        self.duration = 0.0
        """Seconds of the whole video, once a frame has come."""

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Frame:
        """The next frame.

        Raises:
            OSError, ValueError: none of the frames can be read, or the file cannot be opened.
        """
        return next(self._frames)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._frames.close()

    @property
    def seen(self) -> NDArray[np.int64]:
        """The frames that came, ascending."""
        return np.array(self._seen, dtype=np.int64)

    @property
    def broken(self) -> str:
        """Why a part could not be read; empty where no reading was given up."""
        return "; ".join(dict.fromkeys(map(str, self._errors)))

    @property
    def report(self) -> ReadReport:
        """Report on the frames once there are no more; those that no reading reached are lost too."""
        return ReadReport(
            asked=len(self._indices),
            delivered=len(self._seen),
            lost=tuple(np.setdiff1d(self._indices, self._seen).tolist()),
            damaged=tuple(frame for one in self._readings for frame in one.damaged),
            decode_failures=sum(one.decode_failures for one in self._readings),
            seeks=sum(one.seeks for one in self._readings),
            resized=tuple(frame for one in self._readings for frame in one.resized),
            seconds=sum(one.seconds for one in self._readings),
        )

    def _all(self) -> Generator[Frame, None, None]:
        left, step = self._indices, 1
        while len(left) and len(self._readings) < READINGS:
            came = len(self._seen)
            left = yield from self._one(left, step)
            step = 1 if len(self._seen) > came else 2 * step
        if not self._seen:
            asked = len(self._indices)
            none = f"{self._path}: none of the {asked} frames asked for could be read; fetch the file again"
            raise self._errors[0] if self._errors else ValueError(none)

    def _one(self, left: NDArray[np.int64], step: int) -> Generator[Frame, None, NDArray[np.int64]]:
        """The frames of one reading, and those that are left for the next."""
        none, at = left[:0], int(left[0])
        with self._open(left) as reading:
            self.duration = reading.info.duration
            try:
                for frame in reading:
                    at = frame.index
                    self._seen.append(at)
                    yield frame
                return none
            except (OSError, ValueError) as error:
                self._errors.append(error)
                if isinstance(error, OSError):
                    return none
            finally:
                self._readings.append(reading.report)
        keys = reading.info.keyframes
        keys = keys[keys > max(at, *reading.report.lost, -1)]
        return left[left >= keys[step - 1]] if len(keys) >= step else none
