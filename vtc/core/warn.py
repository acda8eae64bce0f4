"""Where a warning about an argument points: at the caller's own line."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

MECHANISM = ("dataclasses", "contextlib")
"""Modules of the standard library through which our own code calls itself."""
DOORS = ("vtc", "vtc.recipes", "vtc.reduction", "vtc.video.qa")
"""Packages whose functions a user calls with the argument; a call by way of others has its own rule for it."""


def warn_caller(text: str) -> None:
    """Issues a UserWarning at the first line outside of vtc, where the call came through a public function.

    Commands, benchmarks and pages make their own arguments: nothing is said of those.
    """
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.split(".")[0] == "vtc" and not _is_door(module):
            return
        if module.split(".")[0] != "vtc" and module not in MECHANISM:
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(text, UserWarning, stacklevel=level)


def _is_door(module: str) -> bool:
    return module in DOORS or any(module.startswith(f"{door}.") for door in DOORS[1:])
