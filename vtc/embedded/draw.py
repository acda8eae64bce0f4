"""Pixels of a scene: a muted ground, bright shapes (some striped), light plates with dark letters."""

import math

import cv2
import numpy as np

from .backgrounds import ground
from .glyphs import draw_letter
from .objects import Plate, Thing
from .scene import Scene
from .spec import COLORS

RGB = dict(
    zip(
        COLORS,
        (
            (225, 35, 40),
            (245, 135, 20),
            (240, 225, 40),
            (40, 185, 65),
            (40, 80, 230),
            (155, 45, 190),
            (245, 245, 245),
        ),
        strict=True,
    )
)
_PLATE_RGB = {"white": (238, 236, 225), "yellow": (236, 218, 70)}

_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates


def outline(thing: Thing) -> np.ndarray:
    """The corners of the shape's outer edge, float `[n, 2]`, units (a ring's is its outer circle)."""
    if thing.shape in ("circle", "ring"):
        angles, radii = np.arange(40) * (2 * math.pi / 40), np.full(40, 0.95)
    elif thing.shape == "square":
        angles, radii = np.arange(4) * (math.pi / 2) + math.pi / 4, np.full(4, 1.15)
    elif thing.shape == "triangle":
        angles, radii = np.arange(3) * (2 * math.pi / 3) - math.pi / 2, np.full(3, 1.1)
    elif thing.shape == "star":
        angles, radii = np.arange(10) * (math.pi / 5) - math.pi / 2, np.where(np.arange(10) % 2, 0.45, 1.1)
    else:
        return _turned(_CROSS, thing)
    return _turned(np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1), thing)


_A, _B = 0.33, 1.0
_CROSS = np.array(
    [
        *((-_A, -_B), (_A, -_B), (_A, -_A), (_B, -_A), (_B, _A), (_A, _A)),
        *((_A, _B), (-_A, _B), (-_A, _A), (-_B, _A), (-_B, -_A), (-_A, -_A)),
    ]
)


def _turned(points: np.ndarray, thing: Thing) -> np.ndarray:
    c, s = math.cos(thing.angle), math.sin(thing.angle)
    return points @ np.array([[c, s], [-s, c]]) * thing.radius + (thing.x, thing.y)


def fixed(points: np.ndarray, unit: float) -> np.ndarray:
    """Units as OpenCV's fixed-point pixel coordinates, int32."""
    return np.round((points * unit - 0.5) * 2**_SHIFT).astype(np.int32)


def draw(scene: Scene, unit: int) -> np.ndarray:
    """The image of `scene`, uint8 RGB `[height, width, 3]`; the same pixels for the same seed and unit."""
    rng = np.random.Generator(np.random.PCG64([scene.seed, 1]))
    width, height = scene.size(unit)
    image = np.ascontiguousarray(ground(rng, scene.ground, width, height))
    if scene.clutter:
        _draw_clutter(rng, image)
    for thing in scene.things:
        jitter = rng.integers(-14, 15, 3)
        draw_thing(image, thing, np.clip(np.array(RGB[thing.color]) + jitter, 0, 255), unit)
    for plate in scene.plates:
        draw_plate(image, plate, unit)
    return image


def _draw_clutter(rng: np.random.Generator, image: np.ndarray) -> None:
    """Thin muted lines and dots: something that is no thing."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(3, 9))):
        a = int(rng.integers(width)), int(rng.integers(height))
        color = tuple(int(c) for c in rng.integers(30, 170) + rng.integers(-12, 13, 3))
        if rng.random() < 0.5:
            b = int(rng.integers(width)), int(rng.integers(height))
            cv2.line(image, a, b, color, 1, cv2.LINE_AA)
        else:
            cv2.circle(image, a, max(1, width // 150), color, -1, cv2.LINE_AA)


def draw_thing(image: np.ndarray, thing: Thing, color: np.ndarray, unit: float) -> None:
    """Draw `thing` into `image` in the RGB `color`, its stripes in a darker one."""
    if not thing.striped:
        _fill(image, thing, color, unit)
        return
    plain, dark = image.copy(), image.copy()
    _fill(plain, thing, color, unit)
    _fill(dark, thing, color * 2 // 5, unit)
    band = max(2, round(thing.radius * unit * 0.2))
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    np.copyto(image, np.where(((rows + columns) // band % 2 == 0)[..., None], dark, plain))


def _fill(image: np.ndarray, thing: Thing, color: np.ndarray, unit: float) -> None:
    rgb = tuple(int(c) for c in color)
    if thing.shape == "ring":
        center = fixed(np.array([thing.x, thing.y]), unit)
        radius = int(thing.radius * 0.75 * unit * 2**_SHIFT)
        thickness = max(2, round(thing.radius * 0.42 * unit))
        cv2.circle(image, (int(center[0]), int(center[1])), radius, rgb, thickness, cv2.LINE_AA, _SHIFT)
    else:
        cv2.fillPoly(image, [fixed(outline(thing), unit)], rgb, cv2.LINE_AA, _SHIFT)


def draw_plate(image: np.ndarray, plate: Plate, unit: float) -> None:
    """Draw `plate`: its ground, a border, and each letter in the middle of its cell."""
    left, top, right, bottom = (round(v * unit) for v in plate.box)
    cv2.rectangle(image, (left, top), (right, bottom), _PLATE_RGB[plate.color], -1)
    cv2.rectangle(image, (left, top), (right, bottom), (50, 50, 60), max(1, round(unit / 150)))
    for i, letter in enumerate(plate.text):
        x0, y0, x1, y1 = (v * unit for v in plate.cell(i))
        draw_letter(image, letter, (x0 + x1) / 2, (y0 + y1) / 2, plate.symbol * unit, plate.font)
