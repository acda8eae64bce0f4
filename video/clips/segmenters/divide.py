"""Stretches of time in parts as equal as frames allow."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

SLACK = 1e-6
"""Seconds by which a length may miss its bound: what is left of times that binary floats cannot hold."""


def edges(seconds: Sequence[float]) -> list[float]:
    """When each frame begins and the last one ends, T + 1 times: a frame lasts until the next one.

    The last lasts as long as the one before it; a single frame lasts no time.
    """
    if len(seconds) < 2:
        return [*seconds, *seconds]
    return [*seconds, 2 * seconds[-1] - seconds[-2]]


def nearest(times: Sequence[float], at: float, low: int, high: int) -> int:
    """The index in [low, high] whose time is nearest to `at`; the lower of two that are equally near."""
    i = min(max(bisect_left(times, at), low), high)
    return i - 1 if i > low and at - times[i - 1] <= times[i] - at + SLACK else i


def equal_parts(times: Sequence[float], start: int, end: int, parts: int) -> list[int]:
    """The frames at which `parts` parts of the frames [start, end) begin, `start` first.

    Each begins at the frame nearest in time to where it should; none is empty. `times` are `edges`.

    Raises:
        ValueError: more parts than frames, or none.
    """
    if not 1 <= parts <= end - start:
        raise ValueError(f"parts={parts} of {end - start} frames; expected from 1 to one part a frame")
    starts = [start]
    for j in range(1, parts):
        at = times[start] + (times[end] - times[start]) * j / parts
        starts.append(nearest(times, at, starts[-1] + 1, end - parts + j))
    return starts


def short_parts(times: Sequence[float], start: int, end: int, longest: float) -> list[int]:
    """The frames at which the parts of [start, end) begin, `start` first: the fewest of at most `longest` seconds.

    They are as equal as frames and `longest` allow. A single frame that lasts longer is a part of its own.
    """
    # A part that ends at edge e and lasts at most `longest` begins at `latest` or later.
    earliest = [end]
    while earliest[-1] > start:
        i = bisect_left(times, times[earliest[-1]] - longest - SLACK, start, earliest[-1])
        earliest.append(min(i, earliest[-1] - 1))
    earliest.reverse()
    parts = len(earliest) - 1
    starts = [start]
    for j in range(1, parts):
        reach = bisect_right(times, times[starts[-1]] + longest + SLACK, starts[-1], end + 1) - 1
        low, high = max(earliest[j], starts[-1] + 1), min(max(reach, starts[-1] + 1), end - parts + j)
        at = times[start] + (times[end] - times[start]) * j / parts
        starts.append(nearest(times, at, low, high))
    return starts
