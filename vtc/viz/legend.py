"""The strip under an image: its caption, and what the marks in it mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from .colors import DIM, HATCH, KEPT, LIT, PALE, PAPER, REGIONS, TINT, Color
from .drawing import diamond, length, shortened, write

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
        shape: a box, one with a line across it, or the diamond of a keyframe, which has its own colours.
    """

    text: str
    fill: Color
    outline: Color | None = None
    shape: Literal["box", "hatched", "diamond"] = "box"


KEPT_MARK = Mark("kept", LIT, KEPT)
REGION_MARK = Mark("kept, each in a colour", LIT, REGIONS[0])
DROPPED = Mark("dropped", DIM)
_TINTED = tuple(round(a * TINT + b * (1 - TINT)) for a, b in zip(REGIONS[0], DIM, strict=True))
MERGED = Mark("merged into the kept one", (_TINTED[0], _TINTED[1], _TINTED[2]))
HATCHED = Mark("dropped", DIM, shape="hatched")
SKIPPED = Mark("not encoded", PALE, shape="hatched")
EMPTY = Mark("no token kept", PALE, shape="hatched")
KEYFRAME = Mark("keyframe: encoded", KEPT, shape="diamond")


def captioned(drawn: Image.Image, caption: str, marks: Sequence[Mark], edge: int = EDGE) -> Image.Image:
    """`drawn` above a strip with the caption and the legend, on as many lines as they need.

    An image narrower than 240 pixels gets white at its right; a caption of more than 4 lines ends in dots.

    Args:
        drawn: what they are about.
        caption: a line or more.
        marks: those that occur.
        edge: pixels that stay free at either side.
    """
    width = max(drawn.width, LEAST)
    texts, rows = wrapped(caption, width - 2 * edge), _rows(marks, width - 2 * edge)
    wide = _long(rows[0]) + length("".join(texts), TEXT) + 24 + 2 * edge if rows else 0
    beside = len(texts) <= 1 and len(rows) == 1 and wide <= width
    lines = 1 if beside else len(texts) + len(rows)
    out = Image.new("RGB", (width, drawn.height + LINE * lines + EDGE), PAPER)
    out.paste(drawn, (0, 0))
    pen = ImageDraw.Draw(out)
    middles = [drawn.height + EDGE / 2 + LINE * (line + 0.5) for line in range(lines)]
    for text, middle in zip(texts, middles, strict=False):
        write(pen, (edge, middle), text, TEXT)
    for row, middle in zip(rows, middles if beside else middles[len(texts) :], strict=True):
        _draw_row(pen, width - edge - _long(row) if beside else edge, middle, row)
    return out


def wrapped(text: str, room: float, lines: int = LINES) -> list[str]:
    """`text` in lines no longer than `room` pixels; dots stand for what is beyond the last one, or for no line."""
    found: list[str] = []
    words = text.split()
    while words and len(found) < lines:
        count = 1
        while count < len(words) and length(" ".join(words[: count + 1]), TEXT) <= room:
            count += 1
        line, words = " ".join(words[:count]), words[count:]
        found.append(shortened(line, TEXT, room))
    if words:
        found[-1] = shortened(" ".join([found[-1], *words]), TEXT, room)
    return found


def _wide(mark: Mark) -> float:
    return BOX + 6 + length(mark.text, TEXT)


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
        _draw_mark(pen, x, middle, mark)
        write(pen, (x + BOX + 6, middle), mark.text, TEXT)
        x += _wide(mark) + 18


def _draw_mark(pen: ImageDraw.ImageDraw, x: float, middle: float, mark: Mark) -> None:
    if mark.shape == "diamond":
        diamond(pen, x + BOX / 2, middle)
        return
    box = (x, middle - BOX / 2, x + BOX, middle + BOX / 2)
    pen.rectangle(box, fill=mark.fill, outline=mark.outline, width=2)
    if mark.shape == "hatched":
        pen.line((box[0], box[3], box[2], box[1]), fill=HATCH, width=2)
