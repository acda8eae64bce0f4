"""From cuts to clips: a full cover in order, with clips neither too short nor too long."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from vtc.core.validation import check_number
from vtc.video.clips.clip import Clip, check_cover

from .base import SceneCut, Segmenter
from .checks import check_seconds
from .divide import SLACK, edges, short_parts


@dataclass(frozen=True)
class _Bounds:
    """The lengths that clips may have, seconds, over frames whose edges are `times`."""

    times: Sequence[float]
    shortest: float
    longest: float

    def parts(self, start: int, end: int) -> list[int]:
        """Return where a clip from `start` to `end` is cut so that no part is longer than allowed."""
        if self.longest == math.inf:
            return [start]
        return short_parts(self.times, start, end, self.longest)

    def fits(self, start: int, end: int) -> bool:
        """Whether no part of a stretch is too short; none is too long but a single frame, which cannot be cut."""
        ends = [*self.parts(start, end), end]
        lengths = [self.times[b] - self.times[a] for a, b in pairwise(ends)]
        return min(lengths) >= self.shortest - SLACK


def to_clips(
    cuts: Iterable[SceneCut], seconds: Sequence[float], *, min_seconds: float = 0.0, max_seconds: float = math.inf
) -> tuple[Clip, ...]:
    """The clips that `cuts` make of the frames shown at `seconds`.

    A frame lasts until the next one, the last as long as the one before it. A stretch longer than `max_seconds` is cut
    into the fewest parts that are not, as equal as frames allow (reason `length`, score 0); only a single frame may be
    longer, and is then a part of its own. A stretch fits if none of its parts is shorter than `min_seconds`. Cuts are
    taken by falling score, of equal scores the earlier first, each if both stretches that it makes fit.

    So all clips keep both bounds if any cut was taken or the whole series fits. Where it does not fit and no cut makes
    it, `max_seconds` is kept and `min_seconds` is not: a series shorter than `min_seconds` is one clip, and parts fall
    short where `max_seconds` is less than twice `min_seconds` (5 s in parts of 3 to 4 s) or frames are few. With the
    default bounds every cut is taken.

    Raises:
        TypeError, ValueError: bounds that are no numbers, below 0 or in the wrong order; times that do not ascend; a
            cut at the first frame or at one that there is not.
    """
    check_number("min_seconds", min_seconds, 0)
    check_number("max_seconds", max_seconds, 0, ends="(]")
    if max_seconds < min_seconds:
        raise ValueError(f"max_seconds={max_seconds} is below min_seconds={min_seconds}; choose {min_seconds} or more")
    frames, cuts = len(seconds), list(cuts)
    for i, at in enumerate(seconds):
        check_seconds(at, seconds[i - 1] if i else None, i)
    if strange := [cut for cut in cuts if not 0 < cut.index < frames]:
        raise ValueError(f"cuts hold {strange[0]}, and of {frames} frames clips can begin at 1 to {frames - 1}")
    if frames == 0:
        return ()
    bounds = _Bounds(edges(seconds), min_seconds, max_seconds)
    taken = _taken(sorted(cuts, key=lambda cut: (-cut.score, cut.index)), frames, bounds)
    borders = [0, *sorted(taken), frames]
    clips: list[Clip] = []
    for start, end in pairwise(borders):
        starts = bounds.parts(start, end)
        for begin, stop in zip(starts, [*starts[1:], end], strict=True):
            cut = taken.get(begin)
            first = cut is None and begin == 0
            clips.append(
                Clip(begin, stop, cut.reason, cut.score) if cut else Clip(begin, stop, "start" if first else "length")
            )
    check_cover(clips, frames)
    return tuple(clips)


def _taken(cuts: Sequence[SceneCut], frames: int, bounds: _Bounds) -> dict[int, SceneCut]:
    """The cuts that leave stretches that fit, by their frames; `cuts` come in the order of their claim."""
    borders, taken = [0, frames], {}
    for cut in cuts:
        place = bisect_right(borders, cut.index)
        start, end = borders[place - 1], borders[min(place, len(borders) - 1)]
        if start < cut.index < end and bounds.fits(start, cut.index) and bounds.fits(cut.index, end):
            insort(borders, cut.index)
            taken[cut.index] = cut
    return taken


def segment(
    values: Iterable[Any],
    seconds: Iterable[float],
    segmenter: Segmenter,
    *,
    min_seconds: float = 0.0,
    max_seconds: float = math.inf,
) -> tuple[Clip, ...]:
    """The clips of a whole series of frames: they cover it, in order, without a gap.

    Args:
        values: a frame or feature each, as `segmenter.wants`; an iterator is read once and nothing of it is kept.
        seconds: when each is shown, ascending.
        min_seconds, max_seconds: how long clips may be; see `to_clips` for what happens where cuts disagree.

    Returns:
        No clip for no frames, one for one frame.

    Raises:
        TypeError, ValueError: see `Segmentation.push` and `to_clips`; `values` and `seconds` of different lengths.
    """
    run = segmenter.begin()
    cuts: list[SceneCut] = []
    missing = object()
    times, items = iter(seconds), iter(values)
    while True:
        at, value = next(times, missing), next(items, missing)
        if at is missing and value is missing:
            break
        if at is missing or value is missing:
            short = "seconds" if at is missing else "values"
            raise ValueError(f"{short} ends after {run.frames}, and the other goes on; pass one time a frame")
        cuts += run.push(at, value)  # type: ignore[arg-type]
    cuts += run.flush()
    return to_clips(cuts, run.seconds, min_seconds=min_seconds, max_seconds=max_seconds)
