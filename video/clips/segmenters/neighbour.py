"""Clips begin where a frame's feature is least like those before it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from vtc.core.validation import check_int, check_number

from .base import (
    SEGMENTERS,
    Found,
    Segmentation,
    Segmenter,
)
from .vectors import Row, distance, known


@SEGMENTERS.register("neighbour")
@dataclass(frozen=True)
class Neighbour(Segmenter):
    """A clip begins where the cosine similarity of neighbouring frames is low: below a threshold, among the lowest, or
    both.

    The two rules of the field are settings of it: `tdc` (TDC-Video's segmentation, the lowest of each window) and
    `dyseg` (FastVID, arXiv 2503.11187: the lowest ones and all below a threshold). Three things differ from the
    released rules. Where two frames do not differ at all no clip begins, so that a video that stands still is one clip,
    not `least + 1`. Fewer transitions than `least` are all there are, where FastVID's code stops with an error. And the
    transition into a window counts to that window.

    Beyond them, `reach` compares frames further apart as well: a soft cut, spread over several transitions that are
    each small, then weighs as much as half a hard one, and a flash of one frame no more than that. With `radius` a cut
    must be the lowest of its surroundings, so that a soft cut is found once.

    A feature with NaN or infinite values says nothing: that frame counts as like the one before. One of zeros is unlike
    all others. The score of a cut is 1 less its similarity.

    The defaults are set on drawn videos at 2 frames a second by `ColorLayout`, where they find 98 % of hard cuts and
    71 % of soft ones with 98 % precision; they are unmeasured for a vision tower, whose features lie closer together.

    Attributes:
        threshold: the similarity below which a frame begins a clip, in [-1, 1]; None: no such rule.
        least: how many of the lowest similarities of a window are cuts whatever the threshold says.
        most: how many cuts a window has at most, the lowest ones; None: no limit.
        window: frames that share `least` and `most`; None: the whole video.
        reach: how many frames further to either side are compared too. The similarity at frame i is the mean of those
            of the frames i - 1 - j and i + j for j from 0 to `reach`; at the ends of the video the outermost frame
            stands for those beyond.
        radius: a cut must have a lower similarity than this many transitions to either side; the earlier of equals.
        still: the distance (1 less similarity) up to which two frames do not differ.
    """

    threshold: float | None = 0.89
    least: int = 0
    most: int | None = None
    window: int | None = None
    reach: int = 1
    radius: int = 1
    still: float = 1e-6

    name = "neighbour"
    paper = "TDC-Video; FastVID, 2503.11187"
    wants = "feature"

    def __post_init__(self) -> None:
        if self.threshold is not None:
            check_number("threshold", self.threshold, -1, 1)
        for name, low in (("least", 0), ("reach", 0), ("radius", 0)):
            check_int(name, getattr(self, name), low)
        if self.most is not None:
            check_int("most", self.most, max(self.least, 1))
        if self.window is not None:
            check_int("window", self.window, 1)
        if self.threshold is None and self.least == 0:
            raise ValueError("threshold=None and least=0 cut nothing; set one of them, or use 'even'")
        check_number("still", self.still, 0, 2)

    @classmethod
    def tdc(cls, least: int = 24, window: int = 64) -> Neighbour:
        """TDC-Video's rule: the `least` lowest similarities of each window of `window` frames."""
        return cls(threshold=None, least=least, window=window, reach=0, radius=0)

    @classmethod
    def dyseg(cls, clips: int = 8, threshold: float = 0.9) -> Neighbour:
        """FastVID's DySeg: the `clips - 1` lowest similarities and all below `threshold`."""
        check_int("clips", clips, 1)
        return cls(threshold=threshold, least=clips - 1, reach=0, radius=0)

    @property
    def lag(self) -> int | None:
        """See `Segmenter.lag`."""
        near = self.reach + self.radius
        if self.ranks:
            return None if self.window is None else near + self.window - 1
        return near

    @property
    def ranks(self) -> bool:
        """Whether a window must be seen whole before its cuts are known."""
        return self.least > 0 or self.most is not None

    def begin(self) -> Segmentation:
        """See `Segmenter.begin`."""
        return _NeighbourRun(self)


class _NeighbourRun(Segmentation):
    """Frames become distances, distances peaks, and peaks cuts, each as soon as its surroundings are known."""

    def __init__(self, rule: Neighbour) -> None:
        super().__init__(rule.wants)
        self._rule = rule
        self._rows: deque[Row | None] = deque(maxlen=2 * rule.reach + 2)
        self._distances = [0.0]  # of frame i from those before it
        self._judged = 0
        self._peaks: list[int] = []

    def _step(self, value: Any) -> Found:
        self._rows.append(known(value, self._rows[-1] if self._rows else None))
        if self.frames - 1 - self._rule.reach > 0:
            self._measure()
        return self._advance(len(self._distances) - 1 - self._rule.radius)

    def _end(self) -> Found:
        while len(self._distances) < self.frames:
            self._measure()
        return [*self._advance(self.frames - 1), *self._decide()]

    def _row(self, frame: int) -> Row | None:
        frame = min(max(frame, 0), self.frames - 1)
        return self._rows[frame - self.frames + len(self._rows)]

    def _measure(self) -> None:
        i, reach = len(self._distances), self._rule.reach
        pairs = [(self._row(i - 1 - j), self._row(i + j)) for j in range(reach + 1)]
        self._distances.append(sum(distance(*pair) for pair in pairs) / (reach + 1))

    def _advance(self, last: int) -> Found:
        """Judges the frames up to `last`, and decides where a window is complete."""
        found: list[tuple[int, float]] = []
        window = self._rule.window if self._rule.ranks else 1
        while self._judged < last:
            self._judged += 1
            if self._is_peak(self._judged):
                self._peaks.append(self._judged)
            if window is not None and (self._judged + 1) % window == 0:
                found += self._decide()
        return found

    def _is_peak(self, i: int) -> bool:
        own, radius = self._distances[i], self._rule.radius
        before = self._distances[max(i - radius, 0) : i]
        after = self._distances[i + 1 : i + 1 + radius]
        return own > self._rule.still and all(own > other for other in before) and all(own >= d for d in after)

    def _decide(self) -> Found:
        """The cuts among the peaks of a window."""
        rule, ranked = self._rule, sorted(self._peaks, key=lambda i: (-self._distances[i], i))
        low = rule.least
        if rule.threshold is not None:
            low = max(low, sum(1 - self._distances[i] < rule.threshold for i in ranked))
        self._peaks = []
        chosen = ranked[: low if rule.most is None else min(low, rule.most)]
        return [(i, self._distances[i]) for i in sorted(chosen)]
