"""Frames of a video, as processors take them: pixels and times, never a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TICKS = 1000
"""Steps of a second in which times that are not evenly spaced are told to processors."""


@dataclass(frozen=True)
class VideoFrames:
    """Some frames of a video.

    Attributes:
        pixels: uint8 `[T, H, W, 3]`, RGB.
        seconds: `[T]` when each is shown, ascending.
        duration: of the whole video, in seconds.
    """

    pixels: NDArray[np.uint8]
    seconds: NDArray[np.float64]
    duration: float

    def __post_init__(self) -> None:
        shape, times = self.pixels.shape, self.seconds
        if self.pixels.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not shape[0]:
            raise ValueError(f"pixels are {self.pixels.dtype} {shape}; expected uint8 [T, H, W, 3], at least one frame")
        if times.shape != shape[:1] or not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise ValueError(f"seconds={times.tolist()}: expected an ascending time for each of {shape[0]} frames")

    @classmethod
    def regular(cls, pixels: NDArray[np.uint8], fps: float) -> VideoFrames:
        """All frames of a video of `fps` frames a second."""
        if not fps > 0:
            raise ValueError(f"fps={fps} must be more than 0")
        return cls(pixels, np.arange(len(pixels)) / fps, len(pixels) / fps)

    def __len__(self) -> int:
        return len(self.pixels)

    def tobytes(self) -> bytes:
        """Pixels and times, of which results depend."""
        return self.pixels.tobytes() + self.seconds.tobytes()

    def metadata(self) -> dict[str, Any]:
        """Return the fields of transformers' `VideoMetadata`; a frame's index over `fps` is its time."""
        steps = np.diff(self.seconds)
        even = len(steps) > 0 and self.seconds[0] == 0 and float(np.ptp(steps)) < 1e-9 * self.duration
        fps = 1 / float(steps[0]) if even else float(TICKS)
        index = np.arange(len(self)) if even else np.rint(self.seconds * fps).astype(int)
        height, width = self.pixels.shape[1:3]
        return {
            "fps": fps,
            "total_num_frames": max(int(index[-1]) + 1, round(self.duration * fps)),
            "duration": self.duration,
            "frames_indices": index.tolist(),
            "height": height,
            "width": width,
        }
