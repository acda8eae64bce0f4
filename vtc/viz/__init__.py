"""Overlays, contact sheets and timelines of what a call kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtc.core.lazy import lazy

if TYPE_CHECKING:
    from .cell_marks import marked
    from .colors import KEPT, REGIONS
    from .contact_sheets import contact_sheet
    from .overlays import at_last_layer, before_after, caption, draw, mosaic, overlay, pair
    from .visible_crop import view

_HOME = {
    "KEPT": "colors",
    "REGIONS": "colors",
    "at_last_layer": "overlays",
    "before_after": "overlays",
    "caption": "overlays",
    "contact_sheet": "contact_sheets",
    "draw": "overlays",
    "marked": "cell_marks",
    "mosaic": "overlays",
    "overlay": "overlays",
    "pair": "overlays",
    "view": "visible_crop",
}

__all__ = [
    "KEPT",
    "REGIONS",
    "at_last_layer",
    "before_after",
    "caption",
    "contact_sheet",
    "draw",
    "marked",
    "mosaic",
    "overlay",
    "pair",
    "view",
]

__getattr__, __dir__ = lazy(__name__, _HOME)
