"""Drawing helpers for images of a video's tokens: colors of clips, texts that fit, marks of frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from .colors import KEPT, REGIONS

Color = tuple[int, int, int]

WIDTH, MARGIN = 1360, 16
"""Pixels of the image, and of what stays free at its sides."""
INK, SOFT, DIM, FAINT = (30, 30, 30), (105, 105, 105), (130, 130, 130), (160, 160, 160)
PALE, PAPER = (230, 230, 230), (255, 255, 255)


def canvas(height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty strip of the image, and a pen for it."""
    out = Image.new("RGB", (WIDTH, height), PAPER)
    return out, ImageDraw.Draw(out)


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """Strips, one under the other."""
    out, _ = canvas(sum(part.height for part in parts))
    y = 0
    for part in parts:
        out.paste(part, (0, y))
        y += part.height
    return out


def color_of(clip: int) -> Color:
    """The color of a clip; neighbours differ."""
    return REGIONS[clip % len(REGIONS)]


def readable(color: Color) -> Color:
    """The color of a text on `color`."""
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


def length(pen: ImageDraw.ImageDraw, text: str, size: int) -> float:
    """Pixels that `text` is long."""
    return float(pen.textlength(text, font(size)))


def write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, fill: Color = INK, anchor: str = "lm"
) -> None:
    """Write `text`; `anchor` says which point of it lies `at`, as in Pillow."""
    pen.text(at, text, fill=fill, font=font(size), anchor=anchor)


def shortened(pen: ImageDraw.ImageDraw, text: str, size: int, room: float) -> str:
    """`text` on one line, its end replaced by dots where it is longer than `room` pixels."""
    text = " ".join(text.split())
    if length(pen, text, size) <= room:
        return text
    few, many = 0, len(text)
    while few < many:
        middle = (few + many + 1) // 2
        few, many = (middle, many) if length(pen, f"{text[:middle]}...", size) <= room else (few, middle - 1)
    return f"{text[:few].rstrip()}..." if few else ""


def fitting(pen: ImageDraw.ImageDraw, texts: Sequence[str], size: int, room: float) -> str:
    """The first of `texts` that is no longer than `room` pixels, or nothing."""
    return next((text for text in texts if length(pen, text, size) <= room), "")


def diamond(pen: ImageDraw.ImageDraw, x: float, y: float) -> None:
    """The mark of a keyframe."""
    pen.polygon([(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)], fill=KEPT, outline=INK)


def cross(pen: ImageDraw.ImageDraw, x: float, y: float, reach: float) -> None:
    """The mark of a frame that was left out."""
    for sign in (1, -1):
        pen.line((x - reach, y - sign * reach, x + reach, y + sign * reach), fill=FAINT, width=2)
