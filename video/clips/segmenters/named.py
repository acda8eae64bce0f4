"""Segmenters by name, with parameters: all of `SEGMENTERS`, and the settings that papers gave names to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vtc.core.specification import build

from .base import SEGMENTERS, Segmenter
from .neighbour import Neighbour

SETTINGS: dict[str, Callable[..., Segmenter]] = {"tdc": Neighbour.tdc, "dyseg": Neighbour.dyseg}
"""Settings of `neighbour`: `tdc:least=24,window=64` and `dyseg:clips=8,threshold=0.9`."""


def segmenter(spec: Any) -> Segmenter:
    """The segmenter that `spec` states (`neighbour`, `even:parts=4`, `{"name": "tdc", "least": 8}`), or is.

    Raises:
        TypeError: it is neither.
        ValueError: an unknown name or parameter, or a value out of range.
    """
    return build("segmenter", spec, _maker, Segmenter)  # type: ignore[type-abstract]


def _maker(name: str) -> Callable[..., Segmenter]:
    return SETTINGS[name] if name in SETTINGS else SEGMENTERS.get(name)
