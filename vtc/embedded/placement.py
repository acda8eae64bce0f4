"""Where the things of a scene stand: random, apart from each other, clear of the lines between places."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from .objects import Box, Plate, Thing
from .spec import (
    COLORS,
    DISTRACTORS,
    MARGIN,
    PLATES,
    SHAPES,
    STRIPED,
    STRIPES_FROM,
    SYMBOLS,
    Kind,
)

T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of `options`, all equally likely."""
    return options[int(rng.integers(len(options)))]


def draw_share(rng: np.random.Generator, shares: Mapping[T, float]) -> T:
    """One of the keys of `shares`, as likely as its value says."""
    at = rng.random()
    for option, share in shares.items():
        at -= share
        if at < 0:
            return option
    return next(reversed(list(shares)))


def apart(a: Box, b: Box, gap: float = 0.01) -> bool:
    """Return whether two boxes keep `gap` between them."""
    return a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]


class Placer:
    """Places plates, then things, on an image of `width` x `height` units; all lengths times `scale`."""

    def __init__(self, rng: np.random.Generator, width: float, height: float, scale: float = 1.0) -> None:
        """Start with an empty image."""
        self._rng, self._size, self._scale = rng, (width, height), scale
        self._taken: list[Box] = []

    def plates(self, rules: Kind, fonts: Sequence[str]) -> tuple[Plate, ...]:
        """Plates of different colors as `rules` ask, in one of `fonts` each; one that finds no room is left out."""
        rng = self._rng
        wanted = draw_share(rng, dict(enumerate(rules.plates)))
        colors = [PLATES[int(i)] for i in shuffled(rng, len(PLATES))]
        out: list[Plate] = []
        for color in colors[:wanted]:
            text, font = _text(rng), pick(rng, fonts)
            symbol = self._between(rules.symbol)
            half = Plate(text, color, 0, 0, symbol, font).box
            for _ in range(100):
                plate = Plate(text, color, self._coordinate(0, half[2]), self._coordinate(1, half[3]), symbol, font)
                if self._take(plate.box):
                    out.append(plate)
                    break
        return tuple(out)

    def things(self, rules: Kind) -> tuple[Thing, ...]:
        """As many things as `rules` ask that find room, touching neither each other nor a plate."""
        rng = self._rng
        wanted = int(rng.integers(rules.things[0], rules.things[1] + 1))
        shapes, colors = self._palette()
        things: list[Thing] = []
        for attempt in range(600):
            if len(things) == wanted:
                break
            # Smaller and smaller as room runs out.
            low, high = rules.radius
            radius = self._between((low, max(low, high - attempt * 0.0003)))
            thing = Thing(
                pick(rng, shapes),
                pick(rng, colors),
                self._coordinate(0, radius),
                self._coordinate(1, radius),
                radius,
                float(rng.random() * 0.5 - 0.25),
                bool(rng.random() < STRIPED) and radius >= STRIPES_FROM,
            )
            if self._take(thing.box):
                things.append(thing)
        return tuple(things)

    def _palette(self) -> tuple[Sequence[str], Sequence[str]]:
        """All shapes and colors; in a scene of distractors only three of each, so that things resemble each other."""
        if self._rng.random() >= DISTRACTORS:
            return SHAPES, COLORS
        shapes, colors = shuffled(self._rng, len(SHAPES))[:3], shuffled(self._rng, len(COLORS))[:3]
        return [SHAPES[i] for i in shapes], [COLORS[i] for i in colors]

    def _between(self, limits: tuple[float, float]) -> float:
        return float(limits[0] + (limits[1] - limits[0]) * self._rng.random()) * self._scale

    def _coordinate(self, axis: int, reach: float) -> float:
        """A centre whose `reach` stays inside the image and which is clear of the lines between places."""
        size = self._size[axis]
        while True:
            value = reach + 0.01 + (size - 2 * reach - 0.02) * self._rng.random()
            if min(abs(value - size / 3), abs(value - 2 * size / 3)) >= MARGIN:
                return float(value)

    def _take(self, box: Box) -> bool:
        if not all(apart(box, other) for other in self._taken):
            return False
        self._taken.append(box)
        return True


def shuffled(rng: np.random.Generator, n: int) -> list[int]:
    """The numbers 0 to `n` - 1 in a random order."""
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = int(rng.integers(i + 1))
        order[i], order[j] = order[j], order[i]
    return order


def _text(rng: np.random.Generator) -> str:
    """Two or three symbols, at least one a digit, so that no text is a word."""
    length = 2 + int(rng.integers(2))
    while True:
        text = "".join(pick(rng, SYMBOLS) for _ in range(length))
        if any(c.isdigit() for c in text):
            return text
