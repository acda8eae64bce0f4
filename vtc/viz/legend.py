"""The strip under an image: its caption, and what the marks in it mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from .colors import (
    KEPT,
    REGIONS,
    TINT,
    Color,
)

INK, PAPER = (30, 30, 30), (255, 255, 255)
LIT, DIM, PALE, HATCH = (225, 225, 225), (90, 90, 90), (232, 232, 232), (150, 150, 150)
TEXT, LINE, EDGE, BOX = 15, 22, 8, 12
LEAST, LINES = 240, 4
"""An image with a legend is at least that many pixels wide, and its caption at most that many lines long."""


@dataclass(frozen=True)
class Mark:
    """One entry of a legend.

    Attributes:
        text: what the mark means.
        fill: the colour of its box.
        outline: of the line around it; None: there is none.
        hatched: whether a line runs across it.
    """

    text: str
    fill: Color
    outline: Color | None = None
    hatched: bool = False


KEPT_MARK = Mark("kept", LIT, KEPT)
REGION_MARK = Mark("kept, each in a colour", LIT, REGIONS[0])
DROPPED = Mark("dropped", DIM)
_TINTED = tuple(round(a * TINT + b * (1 - TINT)) for a, b in zip(REGIONS[0], DIM, strict=True))
MERGED = Mark("merged into the kept one", (_TINTED[0], _TINTED[1], _TINTED[2]))
HATCHED = Mark("dropped", DIM, hatched=True)
SKIPPED = Mark("not encoded", PALE, hatched=True)
EMPTY = Mark("no token kept", PALE, hatched=True)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size=size)


def length(text: str, size: int = TEXT) -> float:
    """Pixels that `text` is long on one line."""
    return float(font(size).getlength(text))


def captioned(drawn: Image.Image, caption: str, marks: Sequence[Mark]) -> Image.Image:
    """`drawn` above a strip with the caption and the legend, on as many lines as they need.

    An image narrower than 240 pixels gets white at its right; a caption of more than 4 lines ends in dots.
    """
    width = max(drawn.width, LEAST)
    texts = wrapped(caption, width - 2 * EDGE)
    rows = _rows(marks, width - 2 * EDGE)
    beside = len(texts) <= 1 and len(rows) == 1 and _long(rows[0]) + length("".join(texts)) + 40 <= width
    lines = 1 if beside else len(texts) + len(rows)
    out = Image.new("RGB", (width, drawn.height + LINE * lines + EDGE), PAPER)
    out.paste(drawn, (0, 0))
    pen = ImageDraw.Draw(out)
    middles = [drawn.height + EDGE / 2 + LINE * (line + 0.5) for line in range(lines)]
    for text, middle in zip(texts, middles, strict=False):
        pen.text((EDGE, middle), text, fill=INK, font=font(TEXT), anchor="lm")
    for row, middle in zip(rows, middles if beside else middles[len(texts) :], strict=True):
        _draw_row(pen, width - EDGE - _long(row) if beside else EDGE, middle, row)
    return out


def wrapped(text: str, room: float, lines: int = LINES) -> list[str]:
    """`text` in lines no longer than `room` pixels; dots stand for what is beyond the last one, or for no line."""
    found: list[str] = []
    words = text.split()
    while words and len(found) < lines:
        count = 1
        while count < len(words) and length(" ".join(words[: count + 1])) <= room:
            count += 1
        line, words = " ".join(words[:count]), words[count:]
        found.append(line if length(line) <= room else _cut(line, room))
    if words:
        found[-1] = _cut(found[-1] + " " + words[0], room)
    return found


def _cut(text: str, room: float) -> str:
    while text and length(f"{text}...") > room:
        text = text[:-1]
    return f"{text.rstrip()}..."


def _wide(mark: Mark) -> float:
    return BOX + 6 + length(mark.text)


def _long(row: Sequence[Mark]) -> float:
    return sum(map(_wide, row)) + 18 * (len(row) - 1)


def _rows(marks: Sequence[Mark], room: float) -> list[list[Mark]]:
    rows: list[list[Mark]] = []
    for mark in marks:
        if rows and _long([*rows[-1], mark]) <= room:
            rows[-1].append(mark)
        else:
            rows.append([mark])
    return rows


def _draw_row(pen: ImageDraw.ImageDraw, x: float, middle: float, row: Sequence[Mark]) -> None:
    for mark in row:
        box = (x, middle - BOX / 2, x + BOX, middle + BOX / 2)
        pen.rectangle(box, fill=mark.fill, outline=mark.outline, width=2)
        if mark.hatched:
            pen.line((box[0], box[3], box[2], box[1]), fill=HATCH, width=2)
        pen.text((x + BOX + 6, middle), mark.text, fill=INK, font=font(TEXT), anchor="lm")
        x += _wide(mark) + 18
