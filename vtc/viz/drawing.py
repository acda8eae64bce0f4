"""Drawing helpers for images of a video's tokens: colours of clips, texts that fit, marks of frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colors import FAINT, HATCH, INK, KEPT, PAPER, REGIONS, Color

WIDTH, MARGIN = 1360, 16
"""Pixels of the image, and of what stays free at its sides."""


def canvas(height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty strip of the image, and a pen for it."""
    out = Image.new("RGB", (WIDTH, height), PAPER)
    return out, ImageDraw.Draw(out)


def color_of(clip: int) -> Color:
    """The colour of a clip; neighbours differ."""
    return REGIONS[clip % len(REGIONS)]


def readable(color: Color) -> Color:
    """The colour of a text on `color`."""
    red, green, blue = color
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else PAPER


def clock(seconds: float) -> str:
    """Seconds, to two places; minutes and hours from two minutes on."""
    if seconds < 120:
        return f"{round(seconds, 2):g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which is unpacked once for each size."""
    return ImageFont.load_default(size=size)


def length(text: str, size: int) -> float:
    """Pixels that `text` is long on one line."""
    return float(font(size).getlength(text))


def write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, fill: Color = INK, anchor: str = "lm"
) -> None:
    """Write `text`; `anchor` says which point of it lies `at`, as in Pillow."""
    pen.text(at, text, fill=fill, font=font(size), anchor=anchor)


def shortened(text: str, size: int, room: float) -> str:
    """`text` on one line, its end replaced by dots where it is longer than `room` pixels; nothing where they are."""
    text = " ".join(text.split())
    if length(text, size) <= room:
        return text
    few, many = 0, len(text)
    while few < many:
        middle = (few + many + 1) // 2
        few, many = (middle, many) if length(f"{text[:middle]}...", size) <= room else (few, middle - 1)
    return f"{text[:few].rstrip()}..." if length("...", size) <= room else ""


def fitting(texts: Sequence[str], size: int, room: float) -> str:
    """The first of `texts` that is no longer than `room` pixels, or nothing."""
    return next((text for text in texts if length(text, size) <= room), "")


def diamond(pen: ImageDraw.ImageDraw, x: float, y: float) -> None:
    """The mark of a keyframe."""
    pen.polygon([(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)], fill=KEPT, outline=INK)


def cross(pen: ImageDraw.ImageDraw, x: float, y: float, reach: float) -> None:
    """The mark of a frame that was left out."""
    for sign in (1, -1):
        pen.line((x - reach, y - sign * reach, x + reach, y + sign * reach), fill=FAINT, width=2)


def faded(image: Image.Image, share: float = 0.6) -> Image.Image:
    """`image` without colour, by that share white."""
    grey = np.asarray(image.convert("L"), dtype=float) * (1 - share) + 255 * share
    return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")


def crossed(image: Image.Image) -> Image.Image:
    """`image` pale, without colour and crossed out: it was left out."""
    out = faded(image)
    pen = ImageDraw.Draw(out)
    right, bottom = out.width - 1, out.height - 1
    for line in ((0, 0, right, bottom), (0, bottom, right, 0)):
        pen.line(line, fill=HATCH, width=2)
    pen.rectangle((0, 0, right, bottom), outline=FAINT)
    return out
