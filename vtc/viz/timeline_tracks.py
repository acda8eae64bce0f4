"""The part of a timeline that runs along the seconds: clips, tokens of each clip, tokens of each unit."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import ImageDraw

from vtc.video.qa.token_usage import TokenUsage, VideoUnit

from .colors import FAINT, INK, PALE, SOFT, Color
from .drawing import (
    MARGIN,
    WIDTH,
    canvas,
    clock,
    color_of,
    cross,
    diamond,
    fitting,
    length,
    readable,
    write,
)
from .regions import ClickableImage, TimeRegion

LEFT = 128
"""Pixels left of the lanes, for their names."""
CLIPS, BUDGETS, COUNTS, AXIS = (6, 30), (42, 122), (134, 214), 230
"""Top and bottom of the lanes, and where the axis lies."""
NUMBER = 16
"""Pixels at the top of a lane for the number over its highest bar."""
TICKS = 12
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
"""At most so many marks on the axis, so many seconds apart, or a round part of a second."""

Count = tuple[int, int]
"""Candidate tokens, and those kept."""


def lanes(found: TokenUsage) -> ClickableImage:
    """The clips, and bars as high as the share of tokens that is kept of each clip and each unit, with the numbers.

    Its regions lead to the time at a place, those of the lane of clips to the beginning of a clip.
    """
    out, pen = canvas(AXIS + 34)
    edges = _edges(found.units)
    spans = [(edges[clip.start], edges[clip.end]) for clip in found.clips]
    clips = [found.tokens(clip) for clip in found.clips]
    units = [(unit.before, unit.after) for unit in found.units]
    top = max((after / before for before, after in (*clips, *units) if before), default=0.0) or 1.0
    remark = f"up to {top:.0%} kept"
    _name(pen, CLIPS, f"{found.clip_word}s", "" if found.shares else "budget: not by shot")
    _name(pen, BUDGETS, f"tokens per {found.clip_word}", remark)
    _name(pen, COUNTS, f"tokens per {'unit' if found.temporal_patch_size > 1 else 'frame'}", remark)
    for number, (span, count) in enumerate(zip(spans, clips, strict=True)):
        _clip(pen, span, number, found.clip_word)
        _bar(pen, span, BUDGETS, color_of(number), count, top)
    for number, (unit, count) in enumerate(zip(found.units, units, strict=True)):
        span = (edges[number], edges[number + 1])
        if unit.encoded:
            _bar(pen, span, COUNTS, color_of(found.clip_of(number)), count, top)
        else:
            _left_out(pen, span, COUNTS)
        if unit.encoded and found.chooses:
            diamond(pen, (span[0] + span[1] - 2) / 2, COUNTS[1] + 9)
    _axis(pen, found.units, edges)
    return ClickableImage(out, (*_clip_regions(found, spans), _along(found, edges, out.height)))


def _clip_regions(found: TokenUsage, spans: Sequence[tuple[int, int]]) -> list[TimeRegion]:
    below = (CLIPS[1] + BUDGETS[0]) // 2
    starts = [found.units[clip.start].start for clip in found.clips]
    return [TimeRegion(left, 0, right, below, start, start) for (left, right), start in zip(spans, starts, strict=True)]


def _along(found: TokenUsage, edges: Sequence[int], height: int) -> TimeRegion:
    return TimeRegion(edges[0], 0, edges[-1], height, found.units[0].start, found.units[-1].end)


def _edges(units: Sequence[VideoUnit]) -> list[int]:
    """Where each unit begins, in pixels, and where the last one ends: by time, or evenly where no time passes."""
    times = [*(unit.start for unit in units), units[-1].end]
    if not times[-1] > times[0]:
        times = [float(i) for i in range(len(times))]
    return [round(_place(time, times[0], times[-1])) for time in times]


def _place(time: float, first: float, last: float) -> float:
    return LEFT + (time - first) / (last - first) * (WIDTH - 2 * MARGIN - LEFT)


def _name(pen: ImageDraw.ImageDraw, lane: tuple[int, int], name: str, remark: str) -> None:
    middle = sum(lane) / 2
    write(pen, (MARGIN, middle - 8 * bool(remark)), name, 13)
    write(pen, (MARGIN, middle + 8), remark, 11, SOFT)


def _box(span: tuple[int, int], lane: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom; two pixels part neighbours where there is room."""
    left, right = span
    return left, lane[0], max(left, right - 2 - (right - left > 3)), lane[1]


def _clip(pen: ImageDraw.ImageDraw, span: tuple[int, int], number: int, word: str) -> None:
    left, top, right, bottom = _box(span, CLIPS)
    pen.rectangle((left, top, right, bottom), fill=color_of(number))
    text = fitting([f"{word} {number + 1}", f"{number + 1}"], 13, right - left - 4)
    write(pen, ((left + right) / 2, (top + bottom) / 2), text, 13, readable(color_of(number)), "mm")


def _bar(
    pen: ImageDraw.ImageDraw, span: tuple[int, int], lane: tuple[int, int], color: Color, count: Count, top: float
) -> None:
    """A bar from the bottom of its lane, with the number of kept tokens over it."""
    left, ceiling, right, floor = _box(span, lane)
    before, after = count
    pen.rectangle((left, ceiling, right, floor), fill=(246, 246, 246))
    tall = round((floor - ceiling - NUMBER) * after / before / top) if before else 0
    if tall:
        pen.rectangle((left, floor - tall, right, floor), fill=color)
    room = right - left
    text = fitting([f"{after} of {before}", f"{after}"], 12, room - 2) or fitting([f"{after}"], 10, room + 2)
    size = 12 if length(text, 12) <= room - 2 else 10
    write(pen, ((left + right) / 2, floor - tall - NUMBER / 2), text, size, anchor="mm")


def _left_out(pen: ImageDraw.ImageDraw, span: tuple[int, int], lane: tuple[int, int]) -> None:
    left, top, right, bottom = _box(span, lane)
    pen.rectangle((left, top, right, bottom), fill=PALE)
    cross(pen, (left + right) / 2, (top + bottom) / 2, min(6.0, (right - left) / 4))


def _axis(pen: ImageDraw.ImageDraw, units: Sequence[VideoUnit], edges: Sequence[int]) -> None:
    first, last = units[0].start, units[-1].end
    write(pen, (MARGIN, AXIS + 14), "time", 13)
    pen.line((edges[0], AXIS, edges[-1], AXIS), fill=FAINT)
    if not last > first:
        return
    step = _step((last - first) / TICKS)
    for number in range(int(-(-first // step)), int(last // step) + 1):
        x = _place(number * step, first, last)
        pen.line((x, AXIS, x, AXIS + 5), fill=INK)
        write(pen, (x, AXIS + 15), clock(number * step), 12, SOFT, "mm")


def _step(least: float) -> float:
    """The least round number of seconds that is at least `least`."""
    if least >= 1:
        return float(next((step for step in STEPS if step >= least), least))
    power = 1.0
    while power / 10 >= least:
        power /= 10
    return next(power * factor for factor in (0.1, 0.2, 0.5, 1) if power * factor >= least)
