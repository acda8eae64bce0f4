"""Bootstrap intervals that resample scenes, since questions about one image are not independent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL, DRAWS = 0.95, 2000
BLOCK = 4_000_000
"""Weights held at once."""
BUDGET = 2 * 10**7
"""Weights of a bootstrap of answers: of very many media fewer draws are made."""
SQUARED = 1.959964**2
"""Of the normal quantile of an interval of 95 %."""


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its interval; None where there is nothing, or a single scene, to tell it from."""

    mean: float | None
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside; never where the bounds are unknown."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def share_right(media: Sequence[Hashable], right: Sequence[bool | float]) -> Interval:
    """The share of right answers, and its interval: media are resampled, since questions about one go together.

    It depends on how many answers of each medium are right, not on names or order, so that whoever reads the same
    answers finds the same. Where all answers are right, or none, resampling knows no other outcome: then the bounds are
    Wilson's, of so many media.

    Args:
        media: of each answer.
        right: whether each is right.
    """
    total, size = Counter[Hashable](), Counter[Hashable]()
    for medium, value in zip(media, right, strict=True):
        total[medium] += float(value)  # type: ignore[assignment]
        size[medium] += 1
    if not size:
        return Interval(None, None, None)
    ordered = sorted((size[medium], float(total[medium])) for medium in size)
    scene = np.repeat(np.arange(len(ordered)), [count for count, _ in ordered])
    values = np.concatenate([np.full(count, share / count) for count, share in ordered])[:, None]
    draws = max(200, min(DRAWS, BUDGET // len(ordered)))
    return _widened(intervals(values, scene.astype(np.int64), draws=draws)[0], len(ordered))


def _widened(interval: Interval, media: int) -> Interval:
    if interval.low is None or interval.mean not in (0.0, 1.0):
        return interval
    unseen = SQUARED / (media + SQUARED)
    return Interval(interval.mean, *((0.0, unseen) if interval.mean == 0.0 else (1.0 - unseen, 1.0)))


def intervals(
    values: Floats, scene: NDArray[np.int64], *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> list[Interval]:
    """The mean of each column of `values` and its percentile interval over resampled scenes.

    All columns meet the same draws, so the interval of a difference is that of its paired column. A mean is taken over
    the questions of the drawn scenes, so scenes with more questions weigh more.

    Args:
        values: `[N, K]`, NaN where a question has no value.
        scene: `[N]` numbers of scenes, 0 to S - 1.

    Raises:
        ValueError: no draws, or a level outside (0, 1).
    """
    if draws < 1:
        raise ValueError(f"draws={draws}; expected at least 1")
    if not 0 < level < 1:
        raise ValueError(f"level={level}; expected a number between 0 and 1, such as 0.95")
    present = ~np.isnan(values)
    scenes = int(scene.max()) + 1 if len(scene) else 0
    total, size = np.zeros((scenes, values.shape[1])), np.zeros((scenes, values.shape[1]))
    np.add.at(total, scene, np.where(present, values, 0.0))
    np.add.at(size, scene, present)
    means = _resampled(total, size, draws, seed) if scenes else np.zeros((0, values.shape[1]))
    return [_interval(means[:, k], total[:, k], size[:, k], level) for k in range(values.shape[1])]


def _resampled(total: Floats, size: Floats, draws: int, seed: int) -> Floats:
    """`[draws, K]` means: scenes drawn with replacement, as many as there are."""
    rng = np.random.default_rng(seed)
    scenes = len(total)
    share = np.full(scenes, 1 / scenes)
    parts = []
    for start in range(0, draws, block := max(1, BLOCK // scenes)):
        weights = rng.multinomial(scenes, share, size=min(block, draws - start)).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a draw without any value of a column has no mean
            parts.append((weights @ total) / (weights @ size))
    return np.concatenate(parts)


def _interval(means: Floats, total: Floats, size: Floats, level: float) -> Interval:
    if not size.sum():
        return Interval(None, None, None)
    mean = float(total.sum() / size.sum())
    known = means[~np.isnan(means)]
    if np.count_nonzero(size) < 2:
        return Interval(mean, None, None)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))
