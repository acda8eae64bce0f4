"""Which frames of a video are looked at, and which of them a model would get: both known before any is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtc.core.memory import check_room
from vtc.core.validation import check_int, check_number
from vtc.media.video_frames import VideoFrames

from . import (
    Info,
    Limits,
    Reading,
    ReadReport,
    frames,
    probe,
)
from .backends import check_backend
from .resilient_reader import Stream
from .tracks import check_track

Progress = Callable[[str, int, int], None]
"""Is told of a phase, how much of it is done, and how much there is to do."""


@dataclass(frozen=True)
class Sampling:
    """How candidates are taken from a video, and how much of a long one is looked at.

    Candidates are what a model gets where no frame is left out; `keep` counts their tokens. A video that is longer than
    `frames` candidates reach is looked at more closely where frames are left out: what is chosen, of no more tokens
    than the candidates allow, then comes from all frames that were looked at.

    Attributes:
        fps: candidates a second.
        frames: candidates at most; a longer video gets that many, in the middle of as many equal parts.
        start, end: the stretch of the video, in seconds; None: from its beginning, to its end.
        track: which track of images, see `vtc.video.reading.frames`; None: the one that players show.
        backend, isolated, timeout, limits: of the reader, see `vtc.video.reading.frames`.
        look: frames a second to look at in such a longer video, where that is more; None: at its candidates alone.
        slack: seconds by which a frame that is looked at may lie beside its time where it is a keyframe. Those are
            decoded alone; a slack of half a step or more, `0.5 / look`, is faster where they come that often.
    """

    fps: float = 2.0
    frames: int = 64
    start: float | None = None
    end: float | None = None
    backend: str = "pyav"
    isolated: bool = True
    timeout: float = 60.0
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    look: float | None = 1.0
    slack: float = 0.0
    track: int | None = None

    def __post_init__(self) -> None:
        check_track(self.track)
        check_backend(self.backend)
        rate = "a number of frames a second above 0, such as"
        check_number("fps", self.fps, 0, ends="()", expected=f"{rate} 2")
        if self.look is not None:
            check_number("look", self.look, 0, ends="()", expected=f"{rate} 1, or None")
        check_number("slack", self.slack, 0, ends="[)", expected="a number of seconds from 0, such as 0.5")
        check_int("frames", self.frames, 1, expected="how many frames to take at most, an int of at least 1")

    def candidates(self, info: Info) -> NDArray[np.int64]:
        """The frames that a model gets where none is left out, ascending and unique.

        All of the stretch where it has no more than are asked for.

        Raises:
            ValueError: a stretch that the video does not have.
        """
        start, end = self._stretch(info)
        count, inside = self._count(start, end), _inside(info, start, end)
        if min(count, self.frames) >= len(inside):  # before there are as many times as somebody asks for
            return inside
        if count <= self.frames:
            return _at(info, start + np.arange(count) / float(self.fps), inside)
        count = int(self.frames)
        return _at(info, start + (np.arange(count) + 0.5) * (end - start) / count, inside)

    def scan_indices(self, info: Info) -> NDArray[np.int64]:
        """The frames to look at where some are left out, ascending and unique: the candidates, or more than those.

        Raises:
            ValueError: as `candidates`.
        """
        even = self.candidates(info)
        start, end = self._stretch(info)
        if self.look is None or self._count(start, end) <= self.frames:
            return even
        count, inside = _times((end - start) * float(self.look)), _inside(info, start, end)
        found = inside if count >= len(inside) else _at(info, start + np.arange(count) / float(self.look), inside)
        return self._on_keyframes(info, found, start, end) if len(found) > len(even) else even

    def _count(self, start: float, end: float) -> int:
        """Return how many candidates the stretch has, before there are too many."""
        return _times((end - start) * float(self.fps))

    def _on_keyframes(self, info: Info, found: NDArray[np.int64], start: float, end: float) -> NDArray[np.int64]:
        """`found`, each frame replaced by the nearest keyframe of the stretch where that is within `slack`."""
        at = info.seconds[info.keyframes]
        keys = info.keyframes[(at >= start) & (at < end)]
        if not self.slack or not len(keys):
            return found
        after = np.searchsorted(keys, found).clip(max=len(keys) - 1)
        before = (after - 1).clip(min=0)
        times = info.seconds[found]
        back, ahead = np.abs(times - info.seconds[keys[before]]), np.abs(times - info.seconds[keys[after]])
        nearest = np.where(back <= ahead, keys[before], keys[after])
        # The slack holds a clock's rounding, as times do.
        return np.unique(np.where(np.minimum(back, ahead) <= self.slack + 5e-5, nearest, found))

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

    def probe(self, path: str | Path) -> Info:
        """Return the properties of the video in `path`, as it is read with these settings.

        Raises:
            OSError, ValueError: see `vtc.video.reading.probe`.
        """
        return probe(path, track=self.track, limits=self.limits, isolated=self.isolated, timeout=self.timeout)

    def open(self, path: str | Path, indices: NDArray[np.int64], resize: int | None = None) -> Reading:
        """A reading of the frames `indices` of `path`, to be closed; those that cannot be read are left out.

        Raises:
            OSError, ValueError: see `vtc.video.reading.frames`.
        """
        return frames(
            path,
            indices=indices,
            resize=resize,
            track=self.track,
            backend=self.backend,
            isolated=self.isolated,
            timeout=self.timeout,
            limits=self.limits,
        )

    def read(
        self,
        path: str | Path,
        indices: NDArray[np.int64],
        resize: int | None = None,
        *,
        progress: Progress | None = None,
    ) -> tuple[VideoFrames, ReadReport]:
        """The frames `indices` of `path`; those that cannot be read are left out, as the report says.

        Reading goes on behind where a video breaks, see `vtc.video.reading.resilient_reader.Stream`.

        Args:
            path: a video file.
            indices: ascending, each once.
            resize: the most pixels of the longer side.
            progress: called with the phase `read` after each frame.

        Raises:
            MemoryError: there is no room for so many frames.
            OSError, ValueError: see `vtc.video.reading.frames`, or no frame could be read.
        """
        times: list[float] = []
        with Stream(str(path), indices, partial(self.open, path, resize=resize)) as stream:
            for frame in stream:
                if not times:
                    height, width = frame.pixels.shape[:2]
                    what = f"{len(indices)} frames of {width} x {height} pixels"
                    check_room(len(indices) * frame.pixels.nbytes, what, "take fewer (frames, fps or keep)")
                    pixels = np.empty((len(indices), *frame.pixels.shape), dtype=np.uint8)
                pixels[len(times)] = frame.pixels
                times.append(frame.seconds)
                if progress is not None:
                    progress("read", len(times), len(indices))
        return VideoFrames(pixels[: len(times)], np.array(times), stream.duration), stream.report


def _inside(info: Info, start: float, end: float) -> NDArray[np.int64]:
    """The frames shown between `start` and `end`."""
    return np.flatnonzero((info.seconds >= start) & (info.seconds < end))


def _times(count: float) -> int:
    """`count`, which may be beyond all numbers, as a whole one of at least 1."""
    return max(1, round(min(count, 2.0**53)))


def _at(info: Info, times: NDArray[np.float64], inside: NDArray[np.int64]) -> NDArray[np.int64]:
    """The frames shown at `times`, among those `inside` of the stretch; all of them where there are no more."""
    if len(inside) <= len(times):
        return inside
    # Half a step of a clock of 10 kHz: a time that is meant to be a frame's own must not fall just before it.
    shown = np.searchsorted(info.seconds, times + 5e-5, side="right") - 1
    return np.unique(np.clip(shown, inside[0], inside[-1]))
