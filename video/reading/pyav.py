"""Exact frames by PyAV: sought by keyframe, told by timestamp, read in one go where seeking fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .backend import Backend, Picked, Pixels
from .decoding import FrameFailure, decoded
from .opening import opened
from .pixels import to_rgb

SKIP = 12
"""Frames that are decoded rather than jumped over: a seek costs about as much."""
ENTRIES = 3
"""Keyframes that are tried, each before the last, until a seek lands at or before a frame."""
REORDER = 16
"""Frames by which a frame can be shown before one that it is decoded from, at most (H.264, H.265)."""


class PyAV(Backend):
    """FFmpeg through PyAV.

    A frame is reached from the last keyframe at or before it; if the file does not land there, from one of the two
    before that; then by decoding the whole file from a fresh start. Only the frame with the timestamp of the index is
    taken. What no way reaches is lost.
    """

    name = "pyav"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stack = ExitStack()
        self._frames: Iterator[VideoFrame | FrameFailure] = iter(())
        self._open_file: tuple[InputContainer, VideoStream] | None = None
        self._held: tuple[int, VideoFrame] | None = None
        self._at = -1  # the frame decoded last
        self._damage: set[tuple[int, int]] = set()
        self._answered, self._resized = -1, False
        self._from_start = self._in_one_go = False
        # What decoding the whole file has shown so far: frames below `_known` are there or lost for good.
        self._there = np.zeros(self.index.info.frames, dtype=bool)
        self._known = 0

    def read(self, wanted: Sequence[int]) -> Iterator[Picked]:
        """See `Backend.read`."""
        self._in_one_go = self.index.by_place
        for target in wanted:
            frame, self._answered, self._resized = self._reach(int(target)), int(target), False
            yield int(target), None if frame is None else self._pixels(frame)

    @property
    def suspect(self) -> bool:
        """See `Backend.suspect`."""
        return any(start <= self._answered < stop for start, stop in self._damage)

    @property
    def resized(self) -> bool:
        """See `Backend.resized`."""
        return self._resized

    def close(self) -> None:
        """See `Backend.close`."""
        self._held, self._frames = None, iter(())
        self._open_file = None
        self._stack.close()

    def _pixels(self, frame: VideoFrame) -> Pixels:
        self.limits.check(str(self.path), "pixels", frame.width * frame.height)
        self._resized = self.index.turn.size(frame.width, frame.height) != self.index.upright
        return to_rgb(frame, self.size, self.index.turn, self.scaler)

    def _reach(self, target: int) -> VideoFrame | None:
        if target < self._known and not self._there[target]:
            return None
        entry = self.index.entry(target)
        if self._near(target, entry):
            frame = self._forward(target)
            if frame is not None or self._from_start:
                return frame
        for way in range(entry, max(-1, entry - ENTRIES), -1):
            frame = self._enter(way, target) if not self._in_one_go else None
            if frame is not None:
                return frame
        self._in_one_go = True
        self._open("SLICE")
        return self._forward(target)

    def _near(self, target: int, entry: int) -> bool:
        """Return whether going on decoding is the way to `target`."""
        if self._open_file is None:
            self._open("SLICE" if self._in_one_go else "AUTO")
        ahead = self._held[0] if self._held else self._at + 1
        if target < ahead:
            return False
        return self._in_one_go or entry < 0 or int(self.index.entries[entry]) <= ahead + SKIP

    def _open(self, threads: str) -> None:
        self.close()
        self._open_file = self._stack.enter_context(opened(self.path, self.limits, threads, self.index.info.track))
        # Frame threads may lose more than is broken, so that their word on what is lost is not the last one.
        self._begin(from_start=threads == "SLICE")

    @property
    def _file(self) -> tuple[InputContainer, VideoStream]:
        assert self._open_file is not None
        return self._open_file

    def _begin(self, from_start: bool) -> None:
        self._frames = decoded(*self._file, self.tally)
        self._held, self._at, self._from_start = None, -1, from_start

    def _enter(self, entry: int, target: int) -> VideoFrame | None:
        """`target`, decoded from `entry` on, if the seek lands there."""
        self.tally.seeks += 1
        try:
            container, stream = self._file
            container.seek(int(self.index.seeks[entry]), stream=stream, backward=True)
        except FFmpegError:
            return None
        self._begin(from_start=False)
        return self._forward(target)

    def _forward(self, target: int) -> VideoFrame | None:
        """Decode up to `target`; None where the frames pass it by. The frame after it is held for the next call."""
        while (held := self._held or self._next()) is not None:
            self._held = held
            if held[0] > target:
                return None
            self._held = None
            if held[0] == target:
                return held[1]
        return None

    def _next(self) -> tuple[int, VideoFrame] | None:
        for frame in self._frames:
            if isinstance(frame, FrameFailure):
                self._mark(frame)
                continue
            place = self._at + 1 if self.index.by_place else self.index.place(frame.pts)
            if place is None or place >= self.index.info.frames:
                continue
            self._at = place
            self._note(place)
            return place, frame
        self._note(None)
        self._at = self.index.info.frames
        return None

    def _mark(self, failure: FrameFailure) -> None:
        """Keep which frames may show traces: those up to the next keyframe, and those that are decoded after it."""
        at = self._at + 1
        if failure.pts is not None and not self.index.by_place:
            at = int(np.searchsorted(self.index.pts, failure.pts))
        keys = self.index.info.keyframes
        later = np.searchsorted(keys, at, side="right")
        self._damage.add((at - REORDER, int(keys[later]) if later < len(keys) else self.index.info.frames))

    def _note(self, place: int | None) -> None:
        """Keep what decoding from the start has shown: `place` is there, what was passed is not; None at the end."""
        if not self._from_start:
            return
        if place is None:
            self._known = len(self._there)
        else:
            self._there[place] = True
            self._known = max(self._known, place)
