"""Scenes drawn from an integer seed: coloured shapes and plates with a few letters, and what is true of them.

The world's rules are `vtc.embedded.spec`. Coordinates are units (`spec.UNIT` pixels by default), origin at the top
left.
"""

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from . import spec
from .objects import Plate, Thing
from .placement import Placer, draw_share, pick
from .spec import (
    HELD_OUT,
    KINDS,
    PLACES,
    VIEWS,
)

if TYPE_CHECKING:
    from .questions import SceneQuestion

__all__ = ["HELD_OUT", "Plate", "Scene", "Thing"]


class Scene:
    """The scene of `seed` in a view of the world: the same things, pixels and questions in every process.

    Attributes: `kind` (of `spec.KINDS`), `things`, `plates`, `width` and `height` in units (their product is 1),
    `ground` and `clutter` (what is behind). Raises ValueError for a negative seed or an unknown view.
    """

    def __init__(self, seed: int, view: str = "square", shifted: bool = False) -> None:
        """Place the things of `seed` (0 or more); `shifted`: on grounds, in fonts and sizes that are never trained."""
        if seed < 0:
            raise ValueError(f"seed={seed} must be 0 or more")
        if view not in VIEWS:
            raise ValueError(f"view={view!r} is no view of the world; known: {', '.join(VIEWS)}")
        self.seed, self.view, self.shifted = seed, view, shifted
        rng = np.random.Generator(np.random.PCG64([seed, 0]))
        self.kind = draw_share(rng, VIEWS[view].kinds)
        self.aspect = draw_share(rng, VIEWS[view].aspects)
        self.width, self.height = math.sqrt(self.aspect), 1 / math.sqrt(self.aspect)
        rules = KINDS[self.kind]
        self.ground = pick(rng, spec.SHIFTED_GROUNDS if shifted else rules.grounds)
        self.clutter = self.kind != "lone" and rng.random() < spec.CLUTTER
        scale = pick(rng, spec.SHIFTED_SCALE) if shifted else 1.0
        placer = Placer(rng, self.width, self.height, scale)
        self.plates: tuple[Plate, ...] = placer.plates(rules, spec.SHIFTED_FONTS if shifted else spec.FONTS)
        self.things: tuple[Thing, ...] = placer.things(rules)

    def __repr__(self) -> str:
        """Describe the image for a person."""
        names = [t.name for t in self.things] + [f"{p.name} {p.text}" for p in self.plates]
        return f"Scene({self.seed}: {', '.join(names)})"

    def place_of(self, x: float, y: float) -> str:
        """The name of the ninth of the image that holds the point `(x, y)` (units)."""
        return PLACES[min(int(y / self.height * 3), 2)][min(int(x / self.width * 3), 2)]

    def size(self, unit: float = spec.UNIT) -> tuple[int, int]:
        """Width and height in pixels where a unit is `unit` pixels."""
        return round(self.width * unit), round(self.height * unit)

    def pixels(self, unit: int = spec.UNIT) -> np.ndarray:
        """The image, uint8 RGB `[height, width, 3]`, a unit being `unit` pixels."""
        from .draw import draw

        return draw(self, unit)

    @cached_property
    def image(self) -> Image.Image:
        """The image for people and processors, RGB; 224 x 224 where it is square."""
        return Image.fromarray(self.pixels())

    @cached_property
    def questions(self) -> "list[SceneQuestion]":
        """Questions with exact answers, each labelled by its skill; never an ambiguous one."""
        from .questions import ask

        return ask(self)
