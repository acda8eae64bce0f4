"""Overlays, contact sheets and timelines of what a call kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtc.core.lazy import lazy

if TYPE_CHECKING:
    from .cell_marks import marked
    from .colors import KEPT, REGIONS
    from .contact_sheet import contact_sheet
    from .overlay import at_last_layer, before_after, caption, draw, mosaic, overlay, pair
    from .visible_crop import view

_HOME = {
    "KEPT": "colors",
    "REGIONS": "colors",
    "at_last_layer": "overlay",
    "before_after": "overlay",
    "caption": "overlay",
    "contact_sheet": "contact_sheet",
    "draw": "overlay",
    "marked": "cell_marks",
    "mosaic": "overlay",
    "overlay": "overlay",
    "pair": "overlay",
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
