"""Pixels of a scene: muted backgrounds (smooth, noisy, striped), bright shapes, a light plate with dark digits."""

import math

import cv2
import numpy as np

from vtc.tiny.world import COLORS, Plate, Scene, Thing

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

_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates


def outline(thing: Thing) -> np.ndarray:
    """The corners of the shape's outer edge, float `[n, 2]`, shares of the side (a ring's is its outer circle)."""
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


def fixed(points: np.ndarray, size: int) -> np.ndarray:
    """Shares of the side as OpenCV's fixed-point pixel coordinates, int32."""
    return np.round((points * size - 0.5) * 2**_SHIFT).astype(np.int32)


def draw(scene: Scene, size: int) -> np.ndarray:
    """The picture of `scene`, uint8 RGB `[size, size, 3]`; the same pixels for the same seed and size."""
    rng = np.random.Generator(np.random.PCG64([scene.seed, 1]))
    picture = _background(rng, size)
    for thing in scene.things:
        jitter = rng.integers(-14, 15, 3)
        color = tuple(int(c) for c in np.clip(np.array(RGB[thing.color]) + jitter, 0, 255))
        _draw_thing(picture, thing, color, size)
    if scene.plate:
        _draw_plate(picture, scene.plate, size)
    return picture


def _draw_thing(picture: np.ndarray, thing: Thing, color: tuple[int, ...], size: int) -> None:
    if thing.shape == "ring":
        center = fixed(np.array([thing.x, thing.y]), size)
        radius = int(thing.radius * 0.75 * size * 2**_SHIFT)
        thickness = max(2, round(thing.radius * 0.42 * size))
        cv2.circle(picture, tuple(map(int, center)), radius, color, thickness, cv2.LINE_AA, _SHIFT)
    else:
        cv2.fillPoly(picture, [fixed(outline(thing), size)], color, cv2.LINE_AA, _SHIFT)


def _draw_plate(picture: np.ndarray, plate: Plate, size: int) -> None:
    left, top, right, bottom = (round(v * size) for v in plate.box)
    cv2.rectangle(picture, (left, top), (right, bottom), (238, 236, 225), -1)
    cv2.rectangle(picture, (left, top), (right, bottom), (50, 50, 60), max(1, size // 110))
    text, thickness = str(plate.number), max(1, round(size / 56))
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min((right - left) * 0.76 / w, (bottom - top) * 0.66 / h)
    origin = (round((left + right - w * scale) / 2), round((top + bottom + h * scale) / 2))
    cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (25, 25, 30), thickness, cv2.LINE_AA)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A muted ground between dark and middle grey with a slight tint, uint8 `[size, size, 3]`."""
    kind = int(rng.integers(3))
    level, tint = rng.uniform(45, 135), rng.uniform(-16, 16, 3)
    corners = np.clip(level + tint + rng.uniform(-22, 22, (2, 2, 1)), 10, 170).astype(np.float32)
    ground: np.ndarray = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
    if kind == 1:
        coarse = rng.normal(0, 14, (28, 28, 1)).astype(np.float32)
        ground += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_NEAREST)[..., None]
    elif kind == 2:
        turn, period = rng.uniform(0, math.pi), rng.uniform(0.04, 0.12)
        axis = np.arange(size, dtype=np.float32) / size * (2 * math.pi / period)
        wave = np.sin(axis[None] * math.cos(turn) + axis[:, None] * math.sin(turn))
        ground += (rng.uniform(6, 14) * wave)[..., None].astype(np.float32)
    return np.clip(ground, 0, 255).astype(np.uint8)
