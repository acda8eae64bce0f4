"""Which frames are meant: by index, by time, by rate, or all of a stretch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtc.core.validation import check_int, check_number

from .info import Info


@dataclass(frozen=True)
class Choice:
    """Requested frames; at most one of `indices`, `seconds` and `fps`.

    Raises:
        TypeError, ValueError: more than one way of choosing, or `start` or `end` with one that has no use for it.
    """

    indices: Sequence[int] | NDArray[np.integer] | None = None
    seconds: Sequence[float] | NDArray[np.floating] | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("indices", "seconds", "fps") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; choose frames in one way")
        if given in (["indices"], ["seconds"]) and (self.start, self.end) != (None, None):
            raise ValueError(f"start={self.start}, end={self.end} go with fps or alone; leave them out with {given[0]}")
        if self.fps is not None:
            check_number("fps", self.fps, 0, ends="()")
        for name in ("start", "end"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), -math.inf)

    def of(self, info: Info) -> NDArray[np.int64]:
        """The indices meant of this video, `[n]`, ascending and unique.

        Raises:
            TypeError, ValueError: an index or time outside of the video, indices not ascending, an empty stretch.
        """
        if self.indices is not None:
            return _checked(self.indices, info)
        if self.seconds is not None:
            return shown(info, _times(self.seconds, info))
        start, end = self._stretch(info)
        if self.fps is not None:
            count = max(1, math.ceil((end - start) * self.fps - 1e-6))
            return shown(info, np.minimum(start + np.arange(count) / self.fps, info.duration))
        slack = slack_of(info)
        first, stop = np.searchsorted(info.seconds, [start - slack, end - slack])
        if first == stop:
            raise ValueError(f"start={self.start}, end={self.end} hold no frame of {info.path}; widen the stretch")
        return np.arange(first, stop, dtype=np.int64)

    def _stretch(self, info: Info) -> tuple[float, float]:
        start = 0.0 if self.start is None else float(self.start)
        end = max(info.duration, np.nextafter(info.seconds[-1] + slack_of(info), math.inf))
        end = end if self.end is None else float(self.end)
        if not 0 <= start <= info.seconds[-1] + slack_of(info) or not start < end:
            raise ValueError(
                f"start={self.start}, end={self.end} is no stretch of {info.path}, whose frames are shown from 0 to "
                f"{info.duration:.6g} s; start must be there and before end"
            )
        return start, min(end, max(info.duration, info.seconds[-1] + 2 * slack_of(info)))


def slack_of(info: Info) -> float:
    """Seconds by which a time may come before a frame and still mean it: containers round times to their own tick."""
    if info.frames < 2:
        return 1e-9
    return min(5.1e-4, float(np.diff(info.seconds).min()) / 4)


def shown(info: Info, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """The frames shown at `seconds`, each once however many of the times it is shown at: `[n]`, ascending."""
    at = np.searchsorted(info.seconds, seconds + slack_of(info), side="right") - 1
    return np.unique(np.maximum(at, 0)).astype(np.int64)


def _times(seconds: Sequence[float] | NDArray[np.floating], info: Info) -> NDArray[np.float64]:
    times = np.asarray(seconds, dtype=np.float64)
    if times.ndim != 1 or not len(times):
        raise ValueError(f"seconds={seconds!r} must be a list of at least one time")
    last = max(info.duration, float(info.seconds[-1]))
    wrong = ~((times >= -slack_of(info)) & (times <= last))  # also NaN
    if wrong.any():
        raise ValueError(
            f"seconds holds {times[wrong][0]}, and {info.path} is shown from 0 to {last:.6g} s; leave such times out"
        )
    return times


def _checked(indices: Sequence[int] | NDArray[np.integer], info: Info) -> NDArray[np.int64]:
    for index in indices:
        check_int("indices", index)
    chosen = np.asarray(indices, dtype=np.int64)
    if chosen.ndim != 1 or not len(chosen):
        raise ValueError(f"indices={indices!r} must be a list of at least one index")
    wrong = (chosen < 0) | (chosen >= info.frames)
    if wrong.any():
        raise ValueError(f"indices holds {chosen[wrong][0]}, and {info.path} has frames 0 to {info.frames - 1}")
    steps = np.diff(chosen) <= 0
    if steps.any():
        at = int(steps.argmax())
        raise ValueError(
            f"indices has {chosen[at + 1]} after {chosen[at]}; they must ascend, each once: sorted(set(indices))"
        )
    return chosen
