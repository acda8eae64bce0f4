"""From a decoded frame to RGB as shown: transparency on white, resized, upright."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vtc.core.validation import check_int

from .info import Info
from .rotation import Turn

Resize = int | tuple[int, int] | None


def output_size(info: Info, resize: Resize, pixels: int) -> tuple[int, int]:
    """(width, height) of delivered frames.

    Args:
        info: the video.
        resize: None for its own size; the most that the longer side may have, which never enlarges; or (width, height).
        pixels: the most that (width, height) may ask for.

    Raises:
        TypeError, ValueError: none of these.
    """
    if resize is None:
        return info.width, info.height
    sides = resize if isinstance(resize, tuple) else (resize,)
    if isinstance(resize, tuple) and len(sides) != 2:
        raise ValueError(f"resize={resize!r} has {len(sides)} numbers; expected an int or (width, height)")
    for side in sides:
        check_int("resize", side, 1, expected="an int of at least 1, or (width, height)")
    if len(sides) == 2:
        if sides[0] * sides[1] > pixels:
            raise ValueError(f"resize={resize!r} is more than {pixels:,} pixels; ask for fewer or raise Limits(pixels)")
        return int(sides[0]), int(sides[1])
    scale = min(1.0, sides[0] / max(info.width, info.height))
    return max(1, round(info.width * scale)), max(1, round(info.height * scale))


def to_rgb(frame: VideoFrame, size: tuple[int, int], turn: Turn, scaler: VideoReformatter) -> NDArray[np.uint8]:
    """The image of `frame` `[H, W, 3]`, contiguous, in `size` (width, height) as shown.

    `scaler` is kept by the caller from frame to frame: making one takes longer than using it.
    """
    if any(part.is_alpha for part in frame.format.components):
        frame = _on_white(frame)
    return turn.apply(_scaled(frame, *turn.size(*size), scaler))


def scaled(pixels: NDArray[np.uint8], size: tuple[int, int], scaler: VideoReformatter) -> NDArray[np.uint8]:
    """RGB `pixels` in `size` (width, height), by the same rule for every backend."""
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return np.ascontiguousarray(pixels)
    return _scaled(VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"), *size, scaler)


def _scaled(frame: VideoFrame, width: int, height: int, scaler: VideoReformatter) -> NDArray[np.uint8]:
    smaller = width * height < frame.width * frame.height
    rule = "AREA" if smaller else "BICUBIC"
    made = scaler.reformat(frame, width, height, format="rgb24", interpolation=rule)
    return np.ascontiguousarray(made.to_ndarray())  # rows may come padded


def _on_white(frame: VideoFrame) -> VideoFrame:
    rgba = frame.to_ndarray(format="rgba").astype(np.uint16)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    mixed = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return VideoFrame.from_ndarray(mixed.astype(np.uint8), format="rgb24")
