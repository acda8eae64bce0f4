"""Labels of frames made contiguous, so that each label is one stretch of time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass
class _Stretch:
    """Neighbouring frames of one label; `core` if it is the one that its label keeps."""

    label: Hashable
    start: int
    length: int
    core: bool = False


def contiguous(labels: Sequence[Hashable]) -> list[int]:
    """The frames at which clips begin, 0 first: one clip a label, so never more clips than labels.

    Each label keeps its longest run, the earlier of equals. The other runs, the shortest first and the earlier of
    equals, join the longer of the runs beside them, the earlier of equals; runs of one label that meet become one. The
    rule of PruneVid (arXiv 2412.16117), whose code keeps both of two longest runs.
    """
    stretches = _stretches(labels)
    while spare := [stretch for stretch in stretches if not stretch.core]:
        least = min(spare, key=lambda stretch: stretch.length)
        stretches = _absorb(stretches, stretches.index(least))
    return [stretch.start for stretch in stretches]


def _stretches(labels: Sequence[Hashable]) -> list[_Stretch]:
    found: list[_Stretch] = []
    longest: dict[Hashable, _Stretch] = {}
    for label, frames in groupby(labels):
        start = found[-1].start + found[-1].length if found else 0
        stretch = _Stretch(label, start, len(list(frames)))
        found.append(stretch)
        if label not in longest or stretch.length > longest[label].length:
            longest[label] = stretch
    for stretch in longest.values():
        stretch.core = True
    return found


def _absorb(stretches: Sequence[_Stretch], at: int) -> list[_Stretch]:
    """`stretches` with the one at `at` made part of a neighbour, and neighbours of one label joined."""
    beside = [i for i in (at - 1, at + 1) if 0 <= i < len(stretches)]
    host = max(beside, key=lambda i: stretches[i].length)
    joined: list[_Stretch] = []
    for i, stretch in enumerate(stretches):
        label, core = (stretches[host].label, False) if i == at else (stretch.label, stretch.core)
        if joined and joined[-1].label == label:
            joined[-1] = _Stretch(label, joined[-1].start, joined[-1].length + stretch.length, joined[-1].core or core)
        else:
            joined.append(_Stretch(label, stretch.start, stretch.length, core))
    return joined
