"""The frozen specification of the drawn world: what may appear, how large, how often, on which ground, from which seed.

Version 1 was fixed before any model of it was trained; version 2 draws the same and asks fewer questions: none of
`shape` or `nearest` that a plate makes unclear. A change of any value here is another world: it takes another
`VERSION`, and figures measured on one version are not compared with those of another. `tests/embedded/test_scene.py`
holds the fingerprint of scenes of this version.

Lengths are shares of the *unit*, the square root of the image's area (a square's side). Seeds below `HELD_OUT` are
for training; those from `HELD_OUT` on were never trained on; those from `VALIDATION` on are for validation.
"""

from dataclasses import dataclass

VERSION = "2"
HELD_OUT = 2**40
VALIDATION = 2**41
UNIT = 224  # pixels of a unit where nothing else is asked for

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "white")
PLATES = ("white", "yellow")
SYMBOLS = "0123456789ACEHKLTX"
PLACES = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
RELATIONS = ("left of", "right of", "above", "below")

# Questions of a crowded scene, of a lone tiny object and of fine print count as skills of their own.
SKILLS = (
    *("shape", "color", "pattern", "where", "what", "count", "exists", "relation", "nearest", "text"),
    *("tiny", "crowded", "fine"),
)

GROUNDS = ("plain", "gradient", "noise", "stripes", "clouds", "landscape")
SHIFTED_GROUNDS = ("checks", "bokeh", "grain")
FONTS = ("regular", "bold", "slanted")
SHIFTED_FONTS = ("light", "narrow")
SHIFTED_SCALE = (0.85, 1.2)  # all lengths of a shifted scene, times one of these

MARGIN = 0.04  # centres keep this far from the lines between places
CLEAR = 0.12  # closer along an axis than this is neither left nor right, above nor below
NEAREST = 0.7  # the nearest is at most this times as far as the second nearest
STRIPED = 0.35  # share of things with stripes, of those at least `STRIPES_FROM` in radius
STRIPES_FROM = 0.085
MOST = 5  # the largest count that is asked for
DISTRACTORS = 0.3  # share of scenes whose things repeat each other's shapes and colours
CLUTTER = 0.25  # share of scenes with thin lines and dots that are no things


@dataclass(frozen=True)
class Kind:
    """One kind of scene: how many things and plates it holds, and how large they are (ranges, ends included)."""

    things: tuple[int, int]
    radius: tuple[float, float]
    plates: tuple[float, ...] = (1.0,)  # probability of 0, 1, 2 plates
    symbol: tuple[float, float] = (0.09, 0.15)  # height of a plate's letters
    grounds: tuple[str, ...] = GROUNDS


KINDS = {
    "plain": Kind(things=(1, 5), radius=(0.085, 0.16), plates=(0.5, 0.5)),
    "crowded": Kind(things=(7, 10), radius=(0.055, 0.075)),
    "lone": Kind(things=(1, 1), radius=(0.04, 0.055), grounds=("plain", "gradient", "clouds")),
    "text": Kind(things=(0, 2), radius=(0.085, 0.14), plates=(0.0, 0.6, 0.4), symbol=(0.085, 0.12)),
    "fine": Kind(things=(1, 3), radius=(0.085, 0.14), plates=(0.0, 1.0), symbol=(0.055, 0.07)),
}


@dataclass(frozen=True)
class WorldView:
    """Which scenes a model is asked about: shares of kinds, and of aspect ratios (width over height)."""

    kinds: dict[str, float]
    aspects: dict[float, float]


# `square` is for models that see one small square; `native` for those that see an image at its own size or in tiles.
VIEWS = {
    "square": WorldView({"plain": 0.45, "crowded": 0.2, "lone": 0.15, "text": 0.2}, {1.0: 1.0}),
    "native": WorldView(
        {"plain": 0.4, "crowded": 0.15, "lone": 0.15, "text": 0.1, "fine": 0.2},
        {1.0: 0.6, 1.5: 0.2, 1 / 1.5: 0.2},
    ),
}
