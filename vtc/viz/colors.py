"""Colours of images of a reduction, which the colour-blind can tell apart, and which region gets which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

Color = tuple[int, int, int]

# Okabe and Ito's palette. Kept cells are orange, merged regions take the others.
KEPT: Color = (230, 159, 0)
"""RGB of the frame around kept cells."""
REGIONS: tuple[Color, ...] = (
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""RGB of merged regions: those side by side differ where the palette allows it."""
INK, SOFT, FAINT, HATCH = (30, 30, 30), (105, 105, 105), (160, 160, 160), (150, 150, 150)
"""RGB of texts, of those that matter less, of thin lines, and of the lines across what is left out."""
PAPER, PALE, LIT, DIM = (255, 255, 255), (230, 230, 230), (225, 225, 225), (90, 90, 90)
"""RGB of the ground, and in legends of what is not encoded, kept and dropped."""
TINT = 0.5
"""The share of its region's colour in a merged cell; with less, a green one is grey to eyes that know no green."""


def region_colors(owners: Iterable[np.ndarray]) -> dict[int, Color]:
    """A colour for each output, so that regions side by side differ wherever the palette allows it.

    Args:
        owners: grids `[H, W]` of the output each cell went into, -1 where it was dropped. An output that has cells in
            several of them has one colour.
    """
    beside: dict[int, set[int]] = {}
    for owner in owners:
        for region in np.unique(owner[owner >= 0]).tolist():
            beside.setdefault(region, set())
        for a, b in _touching(owner):
            beside[a].add(b)
            beside[b].add(a)
    chosen: dict[int, int] = {}
    used: Counter[int] = Counter()
    for region in sorted(beside, key=lambda r: (-len(beside[r]), r)):
        taken = Counter(chosen[other] for other in beside[region] if other in chosen)
        chosen[region] = min(range(len(REGIONS)), key=lambda c: (taken[c], used[c], c))
        used[chosen[region]] += 1
    return {region: REGIONS[color] for region, color in chosen.items()}


def _touching(owner: np.ndarray) -> list[list[int]]:
    """The pairs of outputs that have cells side by side, each once."""
    sides = ((owner[:, :-1], owner[:, 1:]), (owner[:-1], owner[1:]))
    pairs = np.concatenate([np.stack([one.ravel(), other.ravel()], axis=1) for one, other in sides])
    met = (pairs[:, 0] != pairs[:, 1]) & (pairs >= 0).all(axis=1)
    found: list[list[int]] = np.unique(np.sort(pairs[met], axis=1), axis=0).tolist()
    return found
