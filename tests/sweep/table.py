"""What is swept: small models of every class that is served, images and videos, and what is known of each."""

from __future__ import annotations

from functools import cache
from typing import Any

import transformers as hf

from tests.families import FAMILIES
from tests.families.gemma4 import UNIFIED
from tests.families.odd import ODD, Odd
from tests.families.odd_grids import LLAMA4, ODD_GRIDS, ODD_VIDEOS
from tests.families.qwen import QWEN3_MOE
from tests.sweep.more_grids import MORE_GRIDS
from tests.sweep.more_images import MORE_IMAGES
from tests.sweep.more_videos import MORE_VIDEOS
from tests.sweep.patches import PATCHES
from tests.sweep.rows import ROWED

ROWS = [[3, 1, 4, 2, 5], [2, 3, 6]]
"""Two images with text between, and one; a number at an odd place is the seed of an image."""
ALL = (*ODD, *ODD_GRIDS, *ODD_VIDEOS, *MORE_IMAGES, *MORE_GRIDS, *MORE_VIDEOS, *ROWED, *PATCHES)
SWEPT = tuple(odd for odd in ALL if hasattr(hf, odd.name))
"""Models without a family of their own in the grid."""
IN_GRID = (*FAMILIES, QWEN3_MOE, UNIFIED)


def label(odd: Odd) -> str:
    """A short name for tests."""
    return odd.name.partition("For")[0] + ("-video" if odd.kind == "video" else "")


@cache
def media_of() -> dict[str, dict[str, Any]]:
    """By class and kind of media, a function that builds a small model of it."""
    found: dict[str, dict[str, Any]] = {}
    for odd in (*SWEPT, LLAMA4):
        found.setdefault(odd.name, {})[odd.kind] = odd.build
    for family in IN_GRID:
        kind = "video" if family.videos else "image"
        found.setdefault(type(family.build()).__name__, {})[kind] = family.build
    return found
