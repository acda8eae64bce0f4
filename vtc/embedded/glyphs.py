"""The letters of plates as strokes of our own, so that no font file and no library's version changes them."""

from dataclasses import dataclass

import cv2
import numpy as np

_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates

# Strokes on a grid four wide and six high, origin at the top left: x, y, x, y, ...
_LOOP = (1, 0, 3, 0, 4, 1, 4, 5, 3, 6, 1, 6, 0, 5, 0, 1, 1, 0)
STROKES: dict[str, tuple[tuple[float, ...], ...]] = {
    "0": (_LOOP,),
    "1": ((0.8, 1.2, 2, 0, 2, 6), (0.8, 6, 3.2, 6)),
    "2": ((0, 1, 1, 0, 3, 0, 4, 1, 4, 2, 0, 6, 4, 6),),
    "3": ((0, 1, 1, 0, 3, 0, 4, 1, 4, 2, 3, 3, 1.5, 3), (3, 3, 4, 4, 4, 5, 3, 6, 1, 6, 0, 5)),
    "4": ((3, 6, 3, 0, 0, 4, 4, 4),),
    "5": ((4, 0, 0, 0, 0, 2.5, 3, 2.5, 4, 3.5, 4, 5, 3, 6, 1, 6, 0, 5),),
    "6": ((4, 1, 3, 0, 1, 0, 0, 1, 0, 5, 1, 6, 3, 6, 4, 5, 4, 4, 3, 3, 0, 3),),
    "7": ((0, 0, 4, 0, 1.5, 6),),
    "8": ((1, 0, 3, 0, 4, 1, 4, 2, 3, 3, 1, 3, 0, 2, 0, 1, 1, 0), (1, 3, 0, 4, 0, 5, 1, 6, 3, 6, 4, 5, 4, 4, 3, 3)),
    "9": ((4, 3, 1, 3, 0, 2, 0, 1, 1, 0, 3, 0, 4, 1, 4, 5, 3, 6, 1, 6, 0, 5),),
    "A": ((0, 6, 2, 0, 4, 6), (0.8, 4, 3.2, 4)),
    "C": ((4, 1, 3, 0, 1, 0, 0, 1, 0, 5, 1, 6, 3, 6, 4, 5),),
    "E": ((4, 0, 0, 0, 0, 6, 4, 6), (0, 3, 3, 3)),
    "H": ((0, 0, 0, 6), (4, 0, 4, 6), (0, 3, 4, 3)),
    "K": ((0, 0, 0, 6), (4, 0, 0, 4), (1.3, 2.7, 4, 6)),
    "L": ((0, 0, 0, 6, 4, 6),),
    "T": ((0, 0, 4, 0), (2, 0, 2, 6)),
    "X": ((0, 0, 4, 6), (4, 0, 0, 6)),
}


@dataclass(frozen=True)
class Font:
    """How strokes are set: `weight` (thickness) and `width`, shares of a letter's height; `slant` to the right."""

    weight: float
    width: float = 0.56
    slant: float = 0.0


FONTS = {
    "regular": Font(weight=0.11),
    "bold": Font(weight=0.17, width=0.6),
    "slanted": Font(weight=0.12, slant=0.14),
    "light": Font(weight=0.075, width=0.6),
    "narrow": Font(weight=0.15, width=0.42, slant=-0.1),
}


def draw_letter(image: np.ndarray, letter: str, x: float, y: float, height: float, font: str) -> None:
    """Draw `letter` into `image`, centred at pixel `(x, y)`, `height` pixels high with its strokes."""
    style = FONTS[font]
    thickness = max(1, round(style.weight * height))
    high = height - thickness
    wide = style.width * height - thickness / 2
    for stroke in STROKES[letter]:
        points = np.array(stroke, dtype=np.float64).reshape(-1, 2) / (4, 6) - 0.5
        across = points[:, 0] * wide - points[:, 1] * style.slant * high
        corners = np.stack([x + across, y + points[:, 1] * high], 1)
        corners = np.round((corners - 0.5) * 2**_SHIFT).astype(np.int32)
        cv2.polylines(image, [corners[:, None]], False, (25, 25, 30), thickness, cv2.LINE_AA, _SHIFT)
