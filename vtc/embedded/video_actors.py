"""Who plays in a shot and where: things that never touch, on their way or not, clear of the lines between places."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, product

import numpy as np

from . import video_spec as spec
from .objects import Plate, Thing
from .placement import apart, pick, shuffled
from .spec import (
    COLORS,
    MARGIN,
    PLATES,
    SHAPES,
    STRIPED,
    SYMBOLS,
)
from .video_events import between
from .video_parts import Actor, Life


class Cast:
    """Casts the actors of a video: no two have the same color and shape; all lengths times `scale`."""

    def __init__(self, rng: np.random.Generator, fonts: Sequence[str], scale: float = 1.0) -> None:
        """Start with nobody cast."""
        self._rng, self._fonts, self._scale = rng, fonts, scale
        self._looks = _looks(rng)
        self._plates = iter([PLATES[i] for i in shuffled(rng, len(PLATES))])

    def play(self, lives: Sequence[Life], plates: Sequence[bool]) -> tuple[Actor, ...]:
        """An actor for each of `lives`, all apart from each other at all times; `plates` says which are plates."""
        looks = [(next(self._plates), "plate") if p else next(self._looks) for p in plates]
        high = spec.RADIUS[1]
        while True:
            # Those that take much room find theirs first.
            order = sorted(range(len(lives)), key=lambda i: (not plates[i], lives[i].role != "move"))
            placed: dict[int, Actor] = {}
            for i in order:
                actor = self._place(lives[i], looks[i], high, list(placed.values()))
                if actor is None:
                    break
                placed[i] = actor
            else:
                return tuple(placed[i] for i in range(len(lives)))
            high = max(spec.RADIUS[0], high - 0.005)

    def _place(self, life: Life, look: tuple[str, str], high: float, others: list[Actor]) -> Actor | None:
        """`life` by somebody who looks so, where there is room beside `others`; None where none is found."""
        for _ in range(60):
            actor = self._plate(life, look[0]) if look[1] == "plate" else self._thing(life, look, high)
            if actor and all(apart(actor.swept, other.swept) for other in others):
                return actor
        return None

    def _plate(self, life: Life, color: str) -> Actor:
        rng = self._rng
        text, font = _text(rng), pick(rng, self._fonts)
        plate = Plate(text, color, 0, 0, self._length(spec.SYMBOL), font)
        x, y = (_coordinate(rng, reach) for reach in plate.box[2:])
        return Actor(replace(plate, x=x, y=y), life)

    def _thing(self, life: Life, look: tuple[str, str], high: float) -> Actor | None:
        rng, (color, shape) = self._rng, look
        radius = self._length((spec.RADIUS[0], high))
        x, y = _coordinate(rng, radius), _coordinate(rng, radius)
        angle, striped = float(rng.random() * 0.5 - 0.25), bool(rng.random() < STRIPED)
        way = self._way() if life.moving else (0.0, 0.0)
        if life.moving and not all(_stands(c, radius) for c in (x + way[0], y + way[1])):
            return None
        colors = [color]
        for _ in life.turns:
            colors.append(pick(rng, [c for c in COLORS if c != colors[-1]]))
        return Actor(Thing(shape, color, x, y, radius, angle, striped), life, way, tuple(colors))

    def _way(self) -> tuple[float, float]:
        dx, dy = spec.DIRECTIONS[pick(self._rng, list(spec.DIRECTIONS))]
        far = spec.MOVE[0] + (spec.MOVE[1] - spec.MOVE[0]) * self._rng.random()
        drift = spec.DRIFT * (2 * self._rng.random() - 1)
        return float(dx * far + dy * drift), float(dy * far + dx * drift)

    def _length(self, limits: tuple[float, float]) -> float:
        return float(limits[0] + (limits[1] - limits[0]) * self._rng.random()) * self._scale


def _looks(rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Pairs of color and shape, none twice: all different at first, or of three colors and shapes only."""
    colors, shapes = [COLORS[i] for i in shuffled(rng, len(COLORS))], [SHAPES[i] for i in shuffled(rng, len(SHAPES))]
    if rng.random() >= spec.TWINS:
        return zip(cycle(colors), cycle(shapes), strict=True)  # 7 and 6 have no divisor in common
    pairs = list(product(colors[:3], shapes[:3]))
    return iter([pairs[i] for i in shuffled(rng, len(pairs))])


def _stands(center: float, reach: float) -> bool:
    """Whether a thing may stand there, along one axis: inside the frame and clear of the lines between places."""
    inside = reach + 0.01 <= center <= 0.99 - reach
    return inside and min(abs(center - 1 / 3), abs(center - 2 / 3)) >= MARGIN


def _coordinate(rng: np.random.Generator, reach: float) -> float:
    while True:
        center = float(reach + 0.01 + (0.98 - 2 * reach) * rng.random())
        if _stands(center, reach):
            return center


def _text(rng: np.random.Generator) -> str:
    """Two or three symbols, at least one a digit, so that no text is a word."""
    length = between(rng, (2, 3))
    while True:
        text = "".join(pick(rng, SYMBOLS) for _ in range(length))
        if any(c.isdigit() for c in text):
            return text
