"""Clip weights for sharing tokens: by length, novelty, motion, density and relevance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from vtc.core.validation import check_number

from .clip import Clip, check_cover
from .frame_arrays import (
    DIGITS,
    Floats,
    as_floats,
    changes,
    one_each,
    relevance,
    shown,
    unit_rows,
)

MOST = 32
"""The largest exponent: weights stay finite."""


@dataclass(frozen=True)
class ClipWeights:
    """How much each property of a clip counts: a clip weighs `length ** a * (1 + novelty) ** b * ...`.

    All but the length are measured from 0 to 1, and are the same for every clip of a constant video, which so shares by
    length alone; each multiplies a weight by `2 ** exponent` at most. An exponent of 0 leaves a property out.

    Attributes:
        length: exponent of the time that the clip is shown, as a share of the whole.
        novelty: of how unlike the clip is to all before it: the least cosine distance of its mean row to theirs. The
            first clip has none to be compared with, and counts as the mean of the others.
        motion: of the mean cosine distance of neighbouring frames inside the clip; 0 for a single frame.
        density: of how little the clip repeats itself: the mean cosine distance over all pairs of its tokens (of its
            frames, where no tokens are given), which is `1 - 1 / n` for n kinds of tokens at right angles. The idea
            is LangDC's, whose clips get as many tokens as a language model needs to describe them; this takes no
            training.
        relevance: of the best score of a frame in the clip, scores being stretched to 0 to 1 over the video. It takes
            part where scores are given; flat ones say nothing.

    Raises:
        TypeError: an exponent is no number.
        ValueError: an exponent is below 0 or above `MOST`.
    """

    length: float = 1.0
    novelty: float = 1.0
    motion: float = 1.0
    density: float = 1.0
    relevance: float = 2.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            expected = f"a number from 0 to {MOST:g}; 0 leaves the property out"
            object.__setattr__(self, name, check_number(name, value, 0, MOST, expected=expected))

    def weigh(
        self, clips: Sequence[Clip], features: Any, *, seconds: Any = None, tokens: Any = None, scores: Any = None
    ) -> Floats:
        """The weights of `clips`, `[clips]` fp64, finite and at least 0 (0 for a clip that is shown for no time).

        Rows that hold NaN or infinity count as repeats of the row before (`keyframes.rows.unit_rows`), such scores as
        the lowest. Nothing of size N by N is held: a mean over pairs comes from the sum of unit rows.

        Args:
            clips: cover the T frames in order.
            features: `[T, D]` of frames, an array or a tensor.
            seconds: `[T]` presentation times, ascending; None: evenly spaced.
            tokens: `[T, N, D]` features of the tokens, for the density; None: the frames stand for them.
            scores: `[T]` relevance of each frame to a question; None: there is no question.

        Raises:
            ValueError: shapes do not fit, `clips` do not cover the frames, or times fall or are not finite.
        """
        rows = unit_rows(as_floats("features", features, 2))
        check_cover(clips, len(rows))
        spans = [slice(clip.start, clip.end) for clip in clips]
        return (
            _lengths(seconds, spans, len(rows)) ** self.length
            * (1 + _novelty(rows, spans)) ** self.novelty
            * (1 + _motion(rows, spans)) ** self.motion
            * (1 + _densities(rows, tokens, spans)) ** self.density
            * (1 + _relevance(scores, spans, len(rows))) ** self.relevance
        )


def _relevance(scores: Any, spans: Sequence[slice], count: int) -> Floats:
    """The best stretched score of each clip; zeros where there is no question, or the scores are flat."""
    given = None if scores is None else relevance(one_each("scores", scores, count))
    return np.zeros(len(spans)) if given is None else np.array([given[span].max() for span in spans])


def _lengths(seconds: Any, spans: Sequence[slice], count: int) -> Floats:
    """The time that each clip is shown, as a share of the whole."""
    time = None if seconds is None else shown(seconds, count)
    if time is None or not time.any():
        time = np.ones(count)
    return np.array([time[span].sum() for span in spans]) / time.sum()


def _novelty(rows: Floats, spans: Sequence[slice]) -> Floats:
    """How unlike each clip is to the most like of those before it."""
    means = unit_rows(np.array([rows[span].mean(axis=0) for span in spans]).reshape(len(spans), rows.shape[1]))
    near = [float((means[:i] @ means[i]).max()) for i in range(1, len(spans))]
    new = _distance(np.array(near))
    return np.concatenate([[new.mean() if len(new) else 0.0], new])[: len(spans)]


def _motion(rows: Floats, spans: Sequence[slice]) -> Floats:
    """The mean change from frame to frame inside each clip."""
    change = changes(rows)
    inside = [change[span][1:] for span in spans]
    return np.array([min(1.0, part.mean()) if len(part) else 0.0 for part in inside])


def _densities(rows: Floats, tokens: Any, spans: Sequence[slice]) -> Floats:
    """How little each clip repeats itself, by its tokens or else by its frames."""
    if tokens is None:
        return np.array([_density(rows[span]) for span in spans])
    if len(tokens) != len(rows):
        raise ValueError(f"tokens has {len(tokens)} frames for {len(rows)} rows of features; expected as many")
    # One clip at a time: the tokens of a whole video in fp64 can be larger than all else.
    parts = (as_floats("tokens", tokens[span], 3) for span in spans)
    return np.array([_density(unit_rows(part.reshape(-1, part.shape[2]))) for part in parts])


def _density(rows: Floats) -> float:
    """The mean cosine distance over all pairs of rows, each with itself too: to repeat all rows changes nothing."""
    if not len(rows):
        return 0.0
    mean = rows.mean(axis=0)
    return float(_distance(mean @ mean))


def _distance(cosines: Any) -> Floats:
    """1 - cosine, from 0 to 1; rounded, so that equal rows are at 0."""
    return np.clip(np.round(1 - np.asarray(cosines), DIGITS), 0.0, 1.0)
