"""Visible region of an image: its image processor may crop, pad or squeeze it first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from vtc.media.video_frames import VideoFrames

SHORTEST, LONGEST = 640, 1024
"""Limits in pixels for the long side of a view."""

SLIMMEST = 8
"""A view is at most that many times as long as wide, so that its cells can be seen."""

CENTRED = ("CLIPImageProcessor", "LlavaImageProcessor", "SiglipImageProcessor")
WHOLE = (
    "Qwen2VLImageProcessor",
    "GotOcr2ImageProcessor",
    "LlavaNextImageProcessor",
    "LlavaOnevisionImageProcessor",
)
"""They show all of an image; tiles and thumbnail of one are the same image at two sizes."""


@dataclass(frozen=True)
class Coverage:
    """The part of an image that an encoder sees.

    Attributes:
        box: left, top, right, bottom in the image's pixels; what lies beyond the image is padding.
        fill: the colour of the padding.
        size: the (width, height) of the image.
        squeezed: how many times more one axis is shrunk than the other; 1 where the shape is kept.
    """

    box: tuple[float, float, float, float]
    fill: tuple[int, int, int]
    size: tuple[int, int]
    squeezed: float

    @property
    def share(self) -> float:
        """The share (0, 1] of the image's pixels that is seen."""
        left, top, right, bottom = self.box
        width, height = self.size
        seen = (min(right, width) - max(left, 0)) * (min(bottom, height) - max(top, 0))
        return min(1.0, seen / (width * height))


def coverage(size: tuple[int, int], image_processor: Any) -> Coverage:
    """Return the region of an image of `size` (width, height) that the encoder behind `image_processor` sees.

    Raises:
        ValueError: a processor whose steps are not known here.
    """
    name = type(image_processor).__name__.removesuffix("Fast").removesuffix("Pil")
    width, height = size
    if name in WHOLE:
        return Coverage((0, 0, width, height), (0, 0, 0), size, 1.0)
    if name not in CENTRED:
        known = ", ".join((*CENTRED, *WHOLE))
        raise ValueError(f"image processor {name!r}: it is not known which part of an image it shows (known: {known})")
    padded, padding, fill = _padded(size, image_processor)
    resized = _resized(padded, image_processor) if image_processor.do_resize else padded
    scale = (resized[0] / padded[0], resized[1] / padded[1])
    left, top, right, bottom = _crop(resized, image_processor)
    box = (
        left / scale[0] - padding[0],
        top / scale[1] - padding[1],
        right / scale[0] - padding[0],
        bottom / scale[1] - padding[1],
    )
    return Coverage(box, fill, size, max(scale) / min(scale))


def _padded(size: tuple[int, int], processor: Any) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int]]:
    """The size after LLaVA's own processor made a square, the padding at the left and at the top, and its colour."""
    if not (getattr(processor, "do_pad", False) and hasattr(processor, "pad_to_square")):
        return size, (0, 0), (0, 0, 0)
    side = max(size)
    red, green, blue = (int(value * 255) for value in processor.image_mean)
    return (side, side), ((side - size[0]) // 2, (side - size[1]) // 2), (red, green, blue)


def _resized(size: tuple[int, int], processor: Any) -> tuple[int, int]:
    wanted: Mapping[str, int] = dict(processor.size)
    if wanted.get("height") and wanted.get("width"):
        return wanted["width"], wanted["height"]
    edge = wanted.get("shortest_edge")
    if not edge or wanted.get("longest_edge"):
        raise ValueError(f"image processor size={wanted}; expected height and width, or shortest_edge")
    width, height = size
    return (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)


def _crop(size: tuple[int, int], processor: Any) -> tuple[float, float, float, float]:
    if not getattr(processor, "do_center_crop", False):
        return (0, 0, *size)
    wanted: Mapping[str, int] = dict(processor.crop_size)
    left, top = (int((side - wanted[name]) / 2) for side, name in zip(size, ("width", "height"), strict=True))
    return left, top, left + wanted["width"], top + wanted["height"]


def view(image: Image.Image, image_processor: Any) -> Image.Image:
    """The part of `image` that an encoder sees behind `image_processor`, its long side 640 to 1024 pixels.

    An image that the processor squeezes is shown in its own proportions, strips as if they were 8 to 1.

    Raises:
        ValueError: a processor whose steps are not known here.
    """
    seen = coverage(image.size, image_processor)
    left, top, right, bottom = seen.box
    width, height = right - left, bottom - top
    scale = min(max(max(width, height), SHORTEST), LONGEST) / max(width, height)
    least = max(width, height) * scale / SLIMMEST
    target = (round(max(width * scale, least)), round(max(height * scale, least)))
    padding = max(0.0, -left, -top, right - image.width, bottom - image.height)
    if padding > 1e-6:
        image, left, top = _framed(image, seen, -(-padding // 1))
    box = (left, top, min(left + width, image.width), min(top + height, image.height))
    return image.convert("RGB").resize(target, Image.Resampling.BICUBIC, box=box)


def viewed(frames: VideoFrames, processor: Any) -> VideoFrames:
    """The frames of a video as an encoder sees them behind `processor`.

    They are `frames` themselves where the processor takes videos as such, or where its steps are not known.
    """
    if getattr(processor, "video_processor", None) is not None:
        return frames
    image_processor = getattr(processor, "image_processor", None)
    try:
        pixels = [np.asarray(view(Image.fromarray(frame), image_processor)) for frame in frames.pixels]
    except ValueError:  # a processor whose steps are not known
        return frames
    return replace(frames, pixels=np.stack(pixels))


def _framed(image: Image.Image, seen: Coverage, border: float) -> tuple[Image.Image, float, float]:
    """`image` inside a border of the padding's colour, and where the seen part begins in it."""
    border = int(border)
    canvas = Image.new("RGB", (image.width + 2 * border, image.height + 2 * border), seen.fill)
    canvas.paste(image, (border, border))
    return canvas, seen.box[0] + border, seen.box[1] + border
