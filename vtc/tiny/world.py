"""Scenes drawn from an integer seed: coloured shapes, sometimes a plate with a number, and what is true of them.

Coordinates are shares of the side (0..1), origin at the top left. Seeds below `HELD_OUT` are for training; a seed from
`HELD_OUT` on has never been trained on, nor used to choose a model.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from vtc.tiny.questions import Question

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "white")
PLACES = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
HELD_OUT = 2**40
MAX_OBJECTS = 5
NUMBERS = 100

# Centres stay this far from the lines between places and from each other's row or column in a relation,
# so that no question hangs on a pixel.
MARGIN = 0.04


@dataclass(frozen=True)
class Thing:
    """One shape: its centre `(x, y)`, its `radius` (shares of the side) and its `angle` in radians."""

    shape: str
    color: str
    x: float
    y: float
    radius: float
    angle: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """`(left, top, right, bottom)`, shares of the side: the square around the shape's circle."""
        return self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius


@dataclass(frozen=True)
class Plate:
    """A light plate that shows `number` (0..99), centred at `(x, y)`."""

    number: int
    x: float
    y: float
    width: float
    height: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """`(left, top, right, bottom)`, shares of the side."""
        w, h = self.width / 2, self.height / 2
        return self.x - w, self.y - h, self.x + w, self.y + h


def place_of(x: float, y: float) -> str:
    """The name of the ninth of the picture that holds the point `(x, y)`."""
    return PLACES[min(int(y * 3), 2)][min(int(x * 3), 2)]


class Scene:
    """The scene of `seed`: the same things, pixels and questions in every process.

    `things` are the shapes (1 to 5), `plate` the plate or None. Raises ValueError for a negative seed.
    """

    def __init__(self, seed: int) -> None:
        """Place the things of `seed` (0 or more)."""
        if seed < 0:
            raise ValueError(f"seed={seed} must be 0 or more")
        self.seed = seed
        rng = np.random.Generator(np.random.PCG64([seed, 0]))
        wanted = int(rng.integers(1, MAX_OBJECTS + 1))
        self.plate: Plate | None = _place_plate(rng) if rng.random() < 0.6 else None
        self.things: tuple[Thing, ...] = _place_things(rng, wanted, self.plate)

    def __repr__(self) -> str:
        """What is in the picture, for people."""
        names = ", ".join(f"{t.color} {t.shape}" for t in self.things)
        return f"Scene({self.seed}: {names}{f', plate {self.plate.number}' if self.plate else ''})"

    def pixels(self, size: int = 224) -> np.ndarray:
        """The picture, uint8 RGB `[size, size, 3]`."""
        from vtc.tiny.draw import draw

        return draw(self, size)

    @cached_property
    def image(self) -> Image.Image:
        """The picture for people and processors, 224 x 224 RGB."""
        return Image.fromarray(self.pixels())

    @cached_property
    def questions(self) -> "list[Question]":
        """Questions with exact answers, each labelled by its skill; never an ambiguous one."""
        from vtc.tiny.questions import ask

        return ask(self)


def _coordinate(rng: np.random.Generator, reach: float) -> float:
    """A centre whose `reach` stays inside the picture and which is clear of the lines between places."""
    while True:
        value = rng.uniform(reach + 0.01, 1 - reach - 0.01)
        if min(abs(value - 1 / 3), abs(value - 2 / 3)) >= MARGIN:
            return float(value)


def _place_plate(rng: np.random.Generator) -> Plate:
    width, height = rng.uniform(0.30, 0.38), rng.uniform(0.20, 0.26)
    number = int(rng.integers(NUMBERS))
    return Plate(number, _coordinate(rng, width / 2), _coordinate(rng, height / 2), float(width), float(height))


def _apart(a: tuple[float, float, float, float], b: tuple[float, float, float, float], gap: float = 0.01) -> bool:
    return a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]


def _place_things(rng: np.random.Generator, wanted: int, plate: Plate | None) -> tuple[Thing, ...]:
    """Up to `wanted` things that touch neither each other nor the plate (at least one always fits)."""
    taken = [plate.box] if plate else []
    things: list[Thing] = []
    for attempt in range(400):
        if len(things) == wanted:
            break
        # Smaller and smaller as room runs out.
        radius = float(rng.uniform(0.095, max(0.10, 0.16 - attempt * 0.0005)))
        thing = Thing(
            SHAPES[rng.integers(len(SHAPES))],
            COLORS[rng.integers(len(COLORS))],
            _coordinate(rng, radius),
            _coordinate(rng, radius),
            radius,
            float(rng.uniform(-0.25, 0.25)),
        )
        if all(_apart(thing.box, other) for other in taken):
            things.append(thing)
            taken.append(thing.box)
    return tuple(things)
