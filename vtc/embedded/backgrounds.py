"""Backgrounds: muted, from quiet to photo-like, in integers, so every platform draws alike."""

import cv2
import numpy as np

Image = np.ndarray


def ground(rng: np.random.Generator, kind: str, width: int, height: int) -> Image:
    """A ground between dark and middle grey with a slight tint, uint8 `[height, width, 3]`."""
    level = rng.integers(45, 136) + rng.integers(-16, 17, 3)
    out = _KINDS[kind](rng, level, width, height)
    return np.clip(out, 8, 170).astype(np.uint8)


def _plain(rng: np.random.Generator, level: np.ndarray, width: int, height: int) -> Image:
    return np.broadcast_to(level, (height, width, 3))


def _stretched(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """Small integer arrays (0..255) stretched smoothly to `[height, width, ...]`, int64, bit for bit everywhere."""
    small = np.clip(values, 0, 255).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.int64)


def _gradient(rng: np.random.Generator, level: np.ndarray, width: int, height: int) -> Image:
    return _stretched(level + rng.integers(-26, 27, (2, 2, 1)), width, height)


def _noise(rng: np.random.Generator, level: np.ndarray, width: int, height: int) -> Image:
    cells = rng.integers(-22, 23, (28, 28)).astype(np.int16)
    blocks = cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)
    return _gradient(rng, level, width, height) + blocks[..., None]


def _stripes(rng: np.random.Generator, level: np.ndarray, width: int, height: int) -> Image:
    """Triangle waves in one of many directions."""
    dx, dy = rng.integers(-8, 9, 2)
    phase = np.arange(width)[None] * dx + np.arange(height)[:, None] * dy
    period = int(rng.integers(8, 28)) * max(abs(int(dx)), abs(int(dy)), 1)
    wave = np.abs(phase % period * 2 - period) * int(rng.integers(12, 30)) // period
    return _gradient(rng, level, width, height) + wave[..., None] - 10


def _cloud(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Smooth noise of three scales, about -40..40, `[height, width]`."""
    total = np.zeros((height, width), np.int64)
    for cells, strength in ((4, 48), (9, 28), (20, 14)):
        part = rng.integers(0, strength + 1, (cells, cells))
        total += _stretched(part, width, height) - strength // 2
    return total


def _clouds(rng: np.random.Generator, level: np.ndarray, width: int, height: int) -> Image:
    return _gradient(rng, level, width, height) + _cloud(rng, width, height)[..., None]


def _landscape(rng: np.random.Generator, level: np.ndarray, width: int, height: int) -> Image:
    """A pale sky over darker land with a rolling horizon, both with texture."""
    sky = np.array([95, 110, 135]) + rng.integers(-18, 19, 3)
    land = np.array([62, 72, 48]) + rng.integers(-18, 19, 3)
    rise = _stretched(rng.integers(0, 61, (1, 6)), width, 1)[0]
    horizon = height * int(rng.integers(35, 66)) // 100 + (rise - 30) * height // 300
    below = np.arange(height)[:, None] >= horizon[None]
    shade = _cloud(rng, width, height)
    fine = cv2.resize(
        rng.integers(-12, 13, (56, 56)).astype(np.int16), (width, height), interpolation=cv2.INTER_NEAREST
    )
    shade = np.where(below, shade * 2 // 3 + fine, shade // 2)
    return np.where(below[..., None], land, sky) + shade[..., None]


def _checks(rng: np.random.Generator, level: np.ndarray, width: int, height: int) -> Image:
    side = int(rng.integers(10, 30))
    odd = (np.arange(width)[None] // side + np.arange(height)[:, None] // side) % 2
    return _gradient(rng, level, width, height) + odd[..., None] * int(rng.integers(14, 34))


def _bokeh(rng: np.random.Generator, level: np.ndarray, width: int, height: int) -> Image:
    """Soft discs of light."""
    light = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(8, 20))):
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(light, centre, int(rng.integers(6, 30)), int(rng.integers(15, 55)), -1)
    soft = cv2.blur(light, (5, 5)).astype(np.int64)
    return _gradient(rng, level, width, height) + soft[..., None]


def _grain(rng: np.random.Generator, level: np.ndarray, width: int, height: int) -> Image:
    """Long fibres, as in wood."""
    fibres = rng.integers(0, 61, (40, 3))
    return _gradient(rng, level, width, height) + _stretched(fibres, width, height)[..., None] - 30


_KINDS = {
    "plain": _plain,
    "gradient": _gradient,
    "noise": _noise,
    "stripes": _stripes,
    "clouds": _clouds,
    "landscape": _landscape,
    "checks": _checks,
    "bokeh": _bokeh,
    "grain": _grain,
}
