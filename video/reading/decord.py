"""decord's reader (the decord2 fork), held to the index where that can be done, refused where it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import decord  # type: ignore[import-untyped]
import numpy as np

from .backend import Backend, Picked, Pixels
from .pixels import scaled
from .pyav import PyAV

REMEDY = "use backend='pyav', which is exact on it"
EXACT = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers in which decord finds its frames again; in MPEG-TS it does not."""


class Decord(Backend):
    """`decord.VideoReader`.

    It is taken where it lists the same frames at the same times as the index. What is broken it hands over as another
    frame, without a word; so an image that equals the one before it is looked up by PyAV, and is lost where that
    has none. It decodes ahead in threads of its own, so that a fault further on can come up at a sound frame: what it
    fails at is looked up likewise, and it is opened again.
    """

    name = "decord"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        info = self.index.info
        if self.index.by_place or not info.timed:
            raise ValueError(f"{self.path} has no timestamps to tell decord's frames by; {REMEDY}")
        if info.container not in EXACT:
            raise ValueError(f"{self.path} is {info.container}, in which decord finds other frames; {REMEDY}")
        if self.index.open_gops:
            raise ValueError(f"{self.path} has open GOPs, in which decord finds other frames; {REMEDY}")
        if info.alpha == "on white":
            raise ValueError(f"{self.path} has transparent pixels, which decord drops; use backend='pyav'")
        if info.mirrored:
            raise ValueError(f"{self.path} is mirrored, which decord ignores; use backend='pyav'")
        if info.others:
            raise ValueError(f"{self.path} has several tracks, and decord takes none by name; {REMEDY}")
        self._reader: Any = None
        self._judge = PyAV(*args, **kwargs)
        self._last: Pixels | None = None

    def read(self, wanted: Sequence[int]) -> Iterator[Picked]:
        """See `Backend.read`."""
        for target in wanted:
            yield int(target), self._one(int(target))

    def close(self) -> None:
        """See `Backend.close`."""
        self._reader = self._last = None
        self._judge.close()

    def _one(self, target: int) -> Pixels | None:
        if self._reader is None:
            self._open()
        self.tally.tick()
        try:
            pixels = self._pixels(self._reader[target].asnumpy())
        except (decord.DECORDError, StopIteration):
            self.tally.fail("frame", target)
            self._reader = self._last = None
            return next(self._judge.read([target]))[1]
        repeated, self._last = self._last is not None and np.array_equal(self._last, pixels), pixels
        if repeated and next(self._judge.read([target]))[1] is None:
            return None
        return scaled(pixels, self.size, self.scaler)

    def _open(self) -> None:
        info = self.index.info
        try:
            self._reader = decord.VideoReader(str(self.path.absolute()))
            times = self._reader.get_frame_timestamp(list(range(len(self._reader))))[:, 0]
        except (decord.DECORDError, RuntimeError) as error:
            raise ValueError(f"{self.path} cannot be opened by decord ({_first(error)}); {REMEDY}") from error
        if len(times) != info.frames or np.abs(times - times[0] - info.seconds).max() > 1e-3:
            listed = f"{len(times)} frames" if len(times) != info.frames else "other times"
            raise ValueError(f"{self.path}: decord lists {listed}, and there are {info.frames} frames; {REMEDY}")

    def _pixels(self, image: Pixels) -> Pixels:
        """`image` as RGB. Rows padded to a multiple of their width seem to decord to have more channels."""
        height, width, channels = image.shape
        if (width, height) != self.index.upright or channels < 3:
            raise ValueError(f"{self.path}: decord gives {width} x {height} pixels; {REMEDY}")
        return image.reshape(height, width * channels)[:, : 3 * width].reshape(height, width, 3)


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
