"""Which frames of a video are looked at: evenly spaced candidates, read once."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtc.frames import VideoFrames

from .reader import Info, Limits, ReadReport, frames


@dataclass(frozen=True)
class Sampling:
    """How candidates are taken from a video.

    Attributes:
        fps: candidates a second.
        frames: candidates at most; a longer video gets that many, in the middle of as many equal parts.
        start, end: the stretch of the video, in seconds; None: from its beginning, to its end.
        backend, isolated, timeout, limits: of the reader, see `vtc.video.reader.frames`.
    """

    fps: float = 2.0
    frames: int = 64
    start: float | None = None
    end: float | None = None
    backend: str = "pyav"
    isolated: bool = True
    timeout: float = 60.0
    limits: Limits = Limits()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if isinstance(self.fps, bool) or not isinstance(self.fps, Real) or not 0 < float(self.fps) < float("inf"):
            raise ValueError(f"fps={self.fps!r}; expected a number of frames a second above 0, such as 2")
        if isinstance(self.frames, bool) or not isinstance(self.frames, Integral) or self.frames < 1:
            raise ValueError(f"frames={self.frames!r}; expected how many frames to take at most, an int of at least 1")

    def candidates(self, info: Info) -> NDArray[np.int64]:
        """The frames to look at, ascending and unique: all of the stretch where it has no more than are asked for.

        Raises:
            ValueError: a stretch that the video does not have.
        """
        start, end = self._stretch(info)
        inside = np.flatnonzero((info.seconds >= start) & (info.seconds < end))
        count = max(1, round((end - start) * float(self.fps)))
        times = start + np.arange(count) / float(self.fps)
        if count > self.frames:
            count = int(self.frames)
            times = start + (np.arange(count) + 0.5) * (end - start) / count
        if len(inside) <= count:
            return inside
        # Half a step of a clock of 10 kHz: a time that is meant to be a frame's own must not fall just before it.
        shown = np.searchsorted(info.seconds, times + 5e-5, side="right") - 1
        return np.unique(np.clip(shown, inside[0], inside[-1]))

    def _stretch(self, info: Info) -> tuple[float, float]:
        last = float(info.seconds[-1])
        start = 0.0 if self.start is None else float(self.start)
        end = max(info.duration, last + 1e-6) if self.end is None else float(self.end)
        if not 0 <= start <= last:
            raise ValueError(f"start={start} lies outside {info.path}, whose last frame is shown at {last:.6g} s")
        if not start < end:
            raise ValueError(f"end={end} is not behind start={start}; times are seconds from the first frame")
        if not ((info.seconds >= start) & (info.seconds < end)).any():
            raise ValueError(f"start={start}, end={end}: no frame of {info.path} is shown in between")
        return start, end

    def read(
        self, path: str | Path, indices: NDArray[np.int64], resize: int | None = None
    ) -> tuple[VideoFrames, ReadReport]:
        """The frames `indices` of `path`; those that cannot be read are left out, as the report says.

        Raises:
            OSError, ValueError: see `vtc.video.reader.frames`, or no frame could be read.
        """
        options = {"backend": self.backend, "isolated": self.isolated, "timeout": self.timeout, "limits": self.limits}
        with frames(path, indices=indices, resize=resize, **options) as reading:  # type: ignore[arg-type]
            found = list(reading)
            info, report = reading.info, reading.report
        if not found:
            raise ValueError(f"{path}: none of the {report.asked} frames asked for could be read; fetch the file again")
        pixels = np.stack([frame.pixels for frame in found])
        return VideoFrames(pixels, np.array([frame.seconds for frame in found]), info.duration), report
