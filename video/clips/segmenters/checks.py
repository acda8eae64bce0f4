"""Checks of the parameters of segmenters, and of what they are given."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Wants = Literal["frame", "feature", "time"]


def check_seconds(seconds: Any, last: float | None, index: int) -> float:
    """The time of frame `index`.

    Raises:
        TypeError: no number.
        ValueError: not finite, or not after `last`, the time of the frame before.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (Real, np.number)):
        raise TypeError(f"seconds={seconds!r} of frame {index} is a {type(seconds).__name__}; expected a number")
    if not math.isfinite(seconds):
        raise ValueError(f"seconds={seconds} of frame {index} must be finite")
    if last is not None and seconds <= last:
        raise ValueError(
            f"seconds={float(seconds)} of frame {index} is not after {last}, the time of the frame before; pass frames "
            "in the order of their times, each once"
        )
    return float(seconds)


def as_frame(value: Any, shape: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """`value` as an image, uint8 RGB `[H, W, 3]`, of `shape` where one is given.

    Raises:
        TypeError: other values than uint8.
        ValueError: another shape, or no pixels.
    """
    frame = np.asarray(value)
    if frame.dtype != np.uint8:
        raise TypeError(f"a frame has values of {frame.dtype}; expected uint8 RGB [H, W, 3]")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"a frame is {frame.shape}; expected uint8 RGB [H, W, 3]")
    _check_same(frame, shape)
    return frame


def as_feature(value: Any, shape: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """`value` as a feature in float64, `[D]`, of `shape` where one is given.

    Raises:
        TypeError: other values than floats.
        ValueError: another shape, or no values.
    """
    feature = np.asarray(value)
    if feature.dtype.kind != "f":
        raise TypeError(f"a feature has values of {feature.dtype}; expected floats [D], such as a frame's descriptor")
    if feature.ndim != 1 or feature.size == 0:
        raise ValueError(f"a feature is {feature.shape}; expected [D], one vector a frame")
    _check_same(feature, shape)
    return feature.astype(np.float64)


def _check_same(value: NDArray[Any], shape: tuple[int, ...] | None) -> None:
    if shape is not None and value.shape != shape:
        raise ValueError(f"a value is {value.shape}, and those before it were {shape}; pass all of one shape")
