"""Checks of the parameters of segmenters, and of what they are given."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Wants = Literal["frame", "feature", "time"]


def check_count(name: str, value: Any, low: int) -> None:
    """Raise TypeError or ValueError unless `value` is an integer of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected an integer, {low} or more")
    if value < low:
        raise ValueError(f"{name}={value} is below {low}; choose {low} or more")


def check_number(name: str, value: Any, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Raise TypeError or ValueError unless `value` is a number in [low, high], or in (low, high] with `above`."""
    span = f"{'above' if above else 'at least'} {low:g}" + (f" and at most {high:g}" if high < math.inf else "")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected a number {span}")
    number = float(value)
    if not (low < number <= high if above else low <= number <= high):
        raise ValueError(f"{name}={value} must be {span}")


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
