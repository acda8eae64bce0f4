"""Features, times and scores of frames as plain fp64 arrays, with NaN and zeros settled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DIGITS = 9
"""Decimals to which cosines count: rows that are equal tie, whatever the rounding of a sum."""


def as_floats(name: str, value: Any, ndim: int) -> Floats:
    """`value` as an fp64 array of `ndim` dimensions; a torch tensor of any dtype and device too.

    Raises:
        ValueError: it has other dimensions, or is not made of numbers.
    """
    # A tensor says itself how it becomes an array: numpy knows no bf16, and this module does not load torch.
    plain = value.detach().cpu().double().numpy() if hasattr(value, "detach") else value
    try:
        array = np.asarray(plain, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={value!r} is no array of numbers; expected {ndim} dimensions of floats") from error
    if array.ndim != ndim:
        raise ValueError(f"{name} has shape {list(array.shape)}; expected {ndim} dimensions")
    return array


def one_each(name: str, value: Any, count: int) -> Floats:
    """`value` as an fp64 array with one entry for each of `count` frames.

    Raises:
        ValueError: it has another shape.
    """
    array = as_floats(name, value, 1)
    if len(array) != count:
        raise ValueError(f"{name} has {len(array)} entries for {count} frames; expected one per frame")
    return array


def unit_rows(features: Floats) -> Floats:
    """Rows `[T, D]` of length one, as `[T, D + 1]`, so that products of rows are cosines.

    A row that holds NaN or infinity says nothing: it counts as a repeat of the row before it (at the start, of the
    first one that says something). A row of zeros is an image like another, equal to other rows of zeros and unlike
    all else: it alone reaches into the last column.
    """
    settled = features[_sources(features)]
    peak = np.abs(settled).max(axis=1, initial=0.0, keepdims=True)
    blank = ~(np.isfinite(peak) & (peak > 0))
    # The squares of the largest and of the smallest floats do not fit.
    scaled = np.divide(settled, peak, out=np.zeros_like(settled), where=~blank)
    rows = np.concatenate([scaled, blank], axis=1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _sources(features: Floats) -> NDArray[np.int64]:
    """For each row the one that speaks for it: the last finite one up to it, or the first finite one, or row 0."""
    finite = np.isfinite(features).all(axis=-1)
    places = np.maximum.accumulate(np.where(finite, np.arange(len(features)), -1))
    return np.where(places < 0, finite.argmax() if len(features) else 0, places)


def changes(rows: Floats) -> Floats:
    """How unlike each row of `unit_rows` is to the one before: 1 - cosine, `[T]`, 0 for the first and for repeats."""
    near = np.einsum("td,td->t", rows[1:], rows[:-1])
    return np.concatenate([np.zeros(min(1, len(rows))), np.maximum(0.0, np.round(1 - near, DIGITS))])


def shown(seconds: Any, count: int) -> Floats | None:
    """How long each frame is shown, `[count]` seconds: until the next, the last as long as most; None: all alike.

    Raises:
        ValueError: times fall or are not finite, or there is not one for each frame.
    """
    times = one_each("seconds", seconds, count)
    wrong = ~np.isfinite(times)
    wrong[1:] |= times[1:] < times[:-1]
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(f"seconds[{at}]={times[at]} must be finite and not before the one ahead of it; sort by time")
    if count < 2:
        return None
    gaps = np.diff(times)
    lengths = np.append(gaps, np.median(gaps))
    # Times such as i / 29.97 differ in their last bits only.
    return lengths if np.ptp(lengths) > 1e-6 * lengths.mean() else None


def relevance(scores: Floats) -> Floats | None:
    """Scores `[T]` stretched to 0 to 1, or None where they are flat and so say nothing.

    A score that is NaN or infinite is never a reason to choose a frame: it counts as the lowest.
    """
    sound = np.isfinite(scores)
    if not sound.any():
        return None
    low, high = scores[sound].min(), scores[sound].max()
    settled = np.where(sound, scores, low)
    # Halves, as the difference of the largest floats overflows.
    width = high / 2 - low / 2
    return None if width <= 0 else (settled / 2 - low / 2) / width


def lowest(values: Floats, taken: NDArray[np.bool_]) -> int:
    """The place of the lowest value that is not taken; the first of several that agree to `DIGITS` decimals."""
    return int(np.where(taken, np.inf, np.round(values, DIGITS)).argmin())
