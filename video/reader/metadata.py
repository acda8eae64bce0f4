"""What a Hugging Face processor wants to know of a video beside its frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .info import Info
from .reading import Frame

CLOCK = 1000
"""Ticks a second by which frames that are unevenly spaced are told."""


def metadata(info: Info, frames: Iterable[Frame | int]) -> dict[str, Any]:
    """The fields of transformers' `VideoMetadata` for `frames` of the video `info`: frames, or their indices.

    A processor gets the pixels and this, never a path: `processor(videos=[pixels], video_metadata=[metadata(...)],
    do_sample_frames=False)`. It takes the time of a frame for index / fps. Where frames are unevenly spaced that would
    be wrong, so there the same frames are described on an even clock of 1,000 ticks a second: `fps` is 1000 and
    `frames_indices` are milliseconds.

    Raises:
        ValueError: no frames.
    """
    indices = [frame.index if isinstance(frame, Frame) else int(frame) for frame in frames]
    if not indices:
        raise ValueError("frames is empty; pass the frames that the processor gets, or their indices")
    total, fps = info.frames, info.fps
    if info.is_vfr:
        total, fps = max(1, round(info.duration * CLOCK)), float(CLOCK)
        indices = [round(float(info.seconds[index]) * CLOCK) for index in indices]
    return {
        "total_num_frames": total,
        "fps": fps,
        "duration": info.duration,
        "width": info.width,
        "height": info.height,
        "frames_indices": indices,
    }
