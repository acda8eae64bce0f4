"""Clips of frames whose features gather around the same centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtc.core.validation import check_int, check_number

from .base import (
    SEGMENTERS,
    Found,
    Segmentation,
    Segmenter,
)
from .runs import contiguous
from .vectors import (
    Row,
    distance,
    known,
    stack_known,
)

BLOCK = 512
"""Frames compared with all others at once: no matrix of all with all is held."""
DIGITS = 12
"""Decimals that squared distances are rounded to, so that equal frames tie whatever the order of a sum."""

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@SEGMENTERS.register("density")
@dataclass(frozen=True)
class DensitySegmenter(Segmenter):
    """Frames are clustered by density peaks (DPC-kNN), and each cluster is made one stretch of time.

    The clustering of PruneVid (arXiv 2412.16117; DPC-kNN is by Du et al., 2016), on features of length 1. The density
    of a frame is `exp(-m)`, m the mean squared distance to its `neighbours` nearest frames, itself among them. Its
    separation is the distance to the nearest denser frame; for the densest, to the farthest of all. The frames of the
    highest density times separation are centres, and each frame goes to its nearest one. Then each cluster keeps its
    longest run, and the others join the longer of the runs beside them (`contiguous`).

    Two things differ from the released code. Ties go to the earlier frame, where it adds noise to the densities and
    answers otherwise each time; of two longest runs it keeps both, so that there are more clips than clusters. And with
    `apart` the number of clusters follows the content: `share` is then their limit.

    A feature with NaN or infinite values says nothing: that frame counts as like the one before. The score of a cut is
    1 less the cosine similarity of the frames beside it. Memory grows with the frames times their features, time with
    the square of the frames.

    Attributes:
        share: clusters as a share of the frames, at most, rounded down but at least 1.
        neighbours: how many nearest frames the density looks at, itself among them; all there are in a video of fewer.
            Released: 7, which at 2 frames a second blurs shots of a few seconds.
        apart: the least separation of a centre, as the distance of two features of length 1, in [0, 2]; 0 to have
            `share` decide alone, as released. Set, like `neighbours`, on drawn videos by `ColorLayout`.
    """

    share: float = 0.25
    neighbours: int = 3
    apart: float = 0.45

    name = "density"
    paper = "PruneVid, 2412.16117"
    wants = "feature"

    def __post_init__(self) -> None:
        check_number("share", self.share, 0, 1, ends="(]")
        check_int("neighbours", self.neighbours, 1)
        check_number("apart", self.apart, 0, 2)

    @property
    def lag(self) -> int | None:
        """See `Segmenter.lag`."""
        return None

    def begin(self) -> Segmentation:
        """See `Segmenter.begin`."""
        return _DensityRun(self)

    def labels(self, rows: Array) -> Labels:
        """The cluster of each frame, `[T]` int64, before clusters are made contiguous.

        Args:
            rows: `[T, D]` features of length 1, or of zeros.
        """
        density = _densities(rows, min(self.neighbours, len(rows)))
        separation = _separations(rows, density)
        clusters = max(int(len(rows) * self.share + 1e-9), 1)
        centres = np.argsort(-density * separation, kind="stable")[:clusters]
        densest = int(np.argmax(density))
        centres = np.sort([i for i in centres if separation[i] >= self.apart or i == densest] or [densest])
        # Centres ascend, and the first of equally near ones is taken.
        nearest = [_squares(rows[at : at + BLOCK], rows[centres]).argmin(1) for at in _blocks(rows)]
        return np.asarray(np.concatenate(nearest))


class _DensityRun(Segmentation):
    def __init__(self, rule: DensitySegmenter) -> None:
        super().__init__(rule.wants)
        self._rule = rule
        self._rows: list[Row | None] = []

    def _step(self, value: Any) -> Found:
        self._rows.append(known(value, self._rows[-1] if self._rows else None))
        return []

    def _end(self) -> Found:
        rows = stack_known(self._rows)
        if rows is None:
            return []
        starts = contiguous(self._rule.labels(rows).tolist())
        return [(i, distance(rows[i - 1], rows[i])) for i in starts[1:]]


def _blocks(rows: Array) -> range:
    return range(0, len(rows), BLOCK)


def _squares(some: Array, others: Array) -> Array:
    """Squared distances `[n, m]`."""
    lengths = (some**2).sum(1)[:, None] + (others**2).sum(1)
    return np.round(np.maximum(lengths - 2 * some @ others.T, 0), DIGITS)


def _densities(rows: Array, k: int) -> Array:
    nearest = [np.partition(_squares(rows[at : at + BLOCK], rows), k - 1)[:, :k] for at in _blocks(rows)]
    means = np.concatenate([np.sort(squares).mean(1) for squares in nearest])
    return np.asarray(np.exp(-np.round(means, DIGITS)))


def _separations(rows: Array, density: Array) -> Array:
    """Return how far each frame is from the nearest denser one; the densest, from the farthest of all."""
    rank = np.empty(len(rows), dtype=np.int64)
    rank[np.argsort(-density, kind="stable")] = np.arange(len(rows))
    found = []
    for at in _blocks(rows):
        squares = _squares(rows[at : at + BLOCK], rows)
        denser = rank < rank[at : at + BLOCK, None]
        near = np.where(denser, squares, np.inf).min(1)
        found.append(np.sqrt(np.where(denser.any(1), near, squares.max(1))))
    return np.asarray(np.concatenate(found))
