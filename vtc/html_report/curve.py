"""A curve as inline SVG: a score over the share of tokens that is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .html import Markup, joined, tag

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 48
COLORS, DASHES = 7, ("", "6 3", "2 3", "8 3 2 3")
"""Lines of one colour differ by their dashes and marks."""
STEPS = (0.5, 1, 2, 5, 10, 20, 25, 50, 100)


@dataclass(frozen=True)
class Point:
    """One measurement: percent of the tokens, percent of the score, and the bounds of that where they are known."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """The measurements of one recipe."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Level:
    """A line across: what is scored whatever is kept."""

    name: str
    y: float


@dataclass(frozen=True)
class _Axes:
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a measurement lies, in the image's units."""
        low, high = map(math.log, self.x)
        across = (math.log(x) - low) / (high - low)
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return round(LEFT + across * (WIDTH - LEFT - RIGHT), 1), round(
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1
        )


def curve(series: Sequence[Series], levels: Sequence[Level], x_title: str, y_title: str) -> Markup:
    """The curve and its key; nothing where there is no point with some tokens left (the share has a log scale)."""
    shown = [Series(s.name, tuple(sorted((p for p in s.points if p.x > 0), key=lambda p: p.x))) for s in series]
    points = [point for one in shown for point in one.points]
    if not points:
        return Markup()
    axes = _axes(points, levels)
    lines = joined(_series(axes, number, one) for number, one in enumerate(shown) if one.points)
    flat = joined(_level(axes, number, level) for number, level in enumerate(levels))
    middle = (HEIGHT - BOTTOM + TOP) / 2
    drawn = tag(
        "svg",
        tag("title", f"{y_title} over {x_title}"),
        _ticks(axes),
        flat,
        lines,
        tag("text", x_title, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"),
        tag("text", y_title, transform=f"translate(14 {middle}) rotate(-90)", text_anchor="middle"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        class_="curve",
    )
    keys = [_key(number, one.name) for number, one in enumerate(shown) if one.points]
    keys += [_level_key(number, level.name) for number, level in enumerate(levels)]
    return tag("figure", drawn, tag("ul", joined(keys), class_="key"))


def _axes(points: Sequence[Point], levels: Sequence[Level]) -> _Axes:
    xs = [point.x for point in points]
    ys = [y for point in points for y in (point.y, point.low, point.high) if y is not None]
    ys += [level.y for level in levels]
    low, high = math.floor(min(ys) / 10) * 10, math.ceil(max(ys) / 10) * 10
    return _Axes((min(xs) * 0.85, max(*xs, min(xs) * 2) * 1.15), (low, max(high, low + 10)))


def _ticks(axes: _Axes) -> Markup:
    low, high = axes.y
    step = 10 if high - low <= 60 else 20
    parts = []
    for y in range(int(low), int(high) + 1, step):
        _, down = axes.at(axes.x[0], y)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=down, y2=down, class_="grid"))
        parts.append(tag("text", y, x=LEFT - 6, y=down + 4, text_anchor="end"))
    base = HEIGHT - BOTTOM
    for x in (step for step in STEPS if axes.x[0] <= step <= axes.x[1]):
        across, _ = axes.at(x, low)
        parts.append(tag("line", x1=across, x2=across, y1=base, y2=base + 5, class_="axis"))
        parts.append(tag("text", f"{x:g}", x=across, y=base + 18, text_anchor="middle"))
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, class_="axis"))
    return joined(parts)


def _series(axes: _Axes, number: int, one: Series) -> Markup:
    places = [axes.at(point.x, point.y) for point in one.points]
    line = tag("polyline", points=" ".join(f"{x},{y}" for x, y in places), **_stroke(number))
    bars = []
    for point, (x, _) in zip(one.points, places, strict=True):
        if point.low is not None and point.high is not None:
            ends = (axes.at(point.x, end)[1] for end in (point.low, point.high))
            bars.append(tag("line", x1=x, x2=x, y1=next(ends), y2=next(ends), opacity=0.35, **_stroke(number)))
    marks = [
        _mark(number, *place, f"{one.name}: {point.y:.1f} % with {point.x:.1f} % of the tokens")
        for point, place in zip(one.points, places, strict=True)
    ]
    return joined((*bars, line, *marks))


def _stroke(number: int) -> dict[str, str | None]:
    return {
        "class_": f"line s{number % COLORS}",
        "stroke_dasharray": DASHES[number // COLORS % len(DASHES)] or None,
    }


def _mark(number: int, x: float, y: float, title: str) -> Markup:
    """A mark of one of four shapes."""
    name, shape = f"mark f{number % COLORS}", (number + number // COLORS) % 4
    words = tag("title", title)
    if shape == 0:
        return tag("circle", words, cx=x, cy=y, r=4, class_=name)
    if shape == 1:
        return tag("rect", words, x=round(x - 3.6, 1), y=round(y - 3.6, 1), width=7.2, height=7.2, class_=name)
    corners = ((0, -5), (4.8, 4), (-4.8, 4)) if shape == 2 else ((0, -5.2), (5.2, 0), (0, 5.2), (-5.2, 0))
    outline = " ".join(f"{round(x + dx, 1)},{round(y + dy, 1)}" for dx, dy in corners)
    return tag("polygon", words, points=outline, class_=name)


def _level(axes: _Axes, number: int, level: Level) -> Markup:
    _, y = axes.at(axes.x[0], level.y)
    return tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="level", stroke_dasharray=_level_dash(number))


def _level_dash(number: int) -> str | None:
    return DASHES[number % len(DASHES)] or None


def _key(number: int, name: str) -> Markup:
    line = tag("line", x1=0, x2=40, y1=8, y2=8, **_stroke(number))
    return tag("li", tag("svg", line, _mark(number, 20, 8, name), viewBox="0 0 40 16", aria_hidden="true"), name)


def _level_key(number: int, name: str) -> Markup:
    line = tag("line", x1=0, x2=40, y1=8, y2=8, class_="level", stroke_dasharray=_level_dash(number))
    return tag("li", tag("svg", line, viewBox="0 0 40 16", aria_hidden="true"), name)
