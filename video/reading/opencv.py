"""OpenCV's reader, held to the index: each image is told by the time that OpenCV itself gives for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from .backend import Backend, Picked, Pixels
from .pixels import scaled
from .pyav import PyAV

REMEDY = "use backend='pyav', which is exact on it"
SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
SKIP = 24
"""Frames that are decoded rather than jumped over."""


class OpenCV(Backend):
    """`cv2.VideoCapture` with FFmpeg.

    Its frame numbers are time times nominal rate, which is another frame on a variable rate. So they only serve to
    jump, in evenly spaced files; where a jump lands is read off its clock, and a jump too far is undone by reading from
    the start. A frame whose time is not in the index refuses the file, and so does one that PyAV alone can read.
    """

    name = "opencv"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        info = self.index.info
        if self.index.by_place or not info.timed:
            raise ValueError(f"{self.path} has no timestamps to tell OpenCV's frames by; {REMEDY}")
        if info.alpha == "on white":
            raise ValueError(f"{self.path} has transparent pixels, which OpenCV drops; use backend='pyav'")
        if info.mirrored:
            raise ValueError(f"{self.path} is mirrored, which OpenCV ignores; use backend='pyav'")
        if info.others or info.tracks[0].index != info.track:
            raise ValueError(f"{self.path} has several tracks, of which OpenCV takes the first; {REMEDY}")
        self._capture: Any = None
        self._at = -1
        self._judge = PyAV(*args, **kwargs)
        self._jumps = not info.is_vfr and info.container in SEEKABLE

    def read(self, wanted: Sequence[int]) -> Iterator[Picked]:
        """See `Backend.read`."""
        for target in wanted:
            pixels = self._pixels() if self._reach(int(target)) else None
            if pixels is None and next(self._judge.read([target]))[1] is not None and not self._judge.suspect:
                raise ValueError(f"{self.path}: OpenCV cannot read frame {target}, which is there; {REMEDY}")
            yield int(target), pixels

    def close(self) -> None:
        """See `Backend.close`."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None
        self._judge.close()

    def _open(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture = cv2.VideoCapture(str(self.path.absolute()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise ValueError(f"{self.path} cannot be opened by OpenCV; {REMEDY}")
        self._at = -1

    def _reach(self, target: int) -> bool:
        """Return whether the frame `target` is the one grabbed last."""
        if self._capture is None or target <= self._at:
            self._open()
        if self._jumps and target > self._at + SKIP:
            self.tally.seeks += 1
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, target)
            if not self._grab() or self._at > target:
                self._jumps = False  # it does not land here; from now on in order
                self._open()
        while self._at < target and self._grab():
            pass
        return self._at == target

    def _grab(self) -> bool:
        self.tally.tick()
        if not self._capture.grab():
            self._at = self.index.info.frames
            return False
        seconds = self.index.info.seconds
        seconds_shown = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 + self.index.origin - self.index.info.start
        place = int(np.abs(seconds - seconds_shown).argmin())
        if abs(seconds[place] - seconds_shown) > 1e-6 or (self._at >= place and self._at >= 0):
            raise ValueError(
                f"{self.path}: OpenCV gives a frame at {seconds_shown:.6g} s, where there is none; {REMEDY}"
            )
        self._at = place
        return True

    def _pixels(self) -> Pixels | None:
        good, image = self._capture.retrieve()
        if not good:
            self.tally.fail("frame", self._at)
            return None
        width, height = self.index.upright
        if image.shape[:2] != (height, width):
            raise ValueError(
                f"{self.path}: OpenCV gives {image.shape[1]} x {image.shape[0]} pixels, not {width} x {height}; "
                f"{REMEDY}"
            )
        return scaled(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self.size, self.scaler)
