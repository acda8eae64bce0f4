"""Base of keyframe selectors: exactly so many frames of a video, chosen by their features, times or scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vtc.core.registry import Registry
from vtc.core.specification import build
from vtc.core.validation import check_int
from vtc.video.clips.clip import Clip
from vtc.video.clips.frame_arrays import (
    Floats,
    as_floats,
    one_each,
    relevance,
    shown,
    unit_rows,
)

if TYPE_CHECKING:
    from vtc.video.clips.segmenters import Segmenter

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Frames:
    """The frames of one video, as `choose` gets them.

    Attributes:
        rows: `[T, D + 1]` of length one (`rows.unit_rows`), so that products are cosines.
        seconds: `[T]` how long each is shown; None: all alike.
        scores: `[T]` relevance from 0 to 1; None: there are none, or they are flat.
        clips: those of the selector's `cutter`, if it has one.
    """

    rows: Floats
    seconds: Floats | None
    scores: Floats | None
    clips: Sequence[Clip] | None = None

    def __len__(self) -> int:
        return len(self.rows)


class KeyframeSelector(ABC):
    """Chooses frames that stand for their surroundings. Its dataclass fields are its parameters."""

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    """Source: name of the method, arXiv number; empty for folklore."""
    signal: ClassVar[str] = ""
    """What the choice looks at, in a few words."""
    asks: ClassVar[bool] = False
    """Whether it needs scores of relevance to a question."""

    @property
    def cutter(self) -> Segmenter | None:
        """Segmenter of the frames themselves, where features do not suffice; `select` then needs its clips."""
        return None

    def select(
        self,
        features: Any,
        k: int,
        *,
        seconds: Any = None,
        scores: Any = None,
        clips: Sequence[Clip] | None = None,
    ) -> Places:
        """Exactly `min(k, T)` of T frames.

        Everything is computed in fp64 whatever the dtype. A frame whose features hold NaN or infinity counts as a
        repeat of the one before; a score that does counts as the lowest. Scores are looked at only by selectors that
        ask. Nothing of size T by T is held.

        Args:
            features: `[T, D]`, one row a frame: an array or a tensor.
            k: how many frames, at least 1.
            seconds: `[T]` presentation times, ascending; None: evenly spaced.
            scores: `[T]` relevance of each frame to the question, the higher the better, on any scale.
            clips: that `cutter` has cut the frames into.

        Returns:
            `[min(k, T)]` int64, ascending and unique.

        Raises:
            TypeError: `k` is not an int.
            ValueError: `k` is below 1, shapes do not fit, times fall or are not finite, or the selector asks for scores
                or clips and there are none.
        """
        frames = replace(self._frames(features, seconds, scores), clips=clips)
        if self.cutter is not None and clips is None:
            raise ValueError(
                f"clips=None, but the segmenter {self.cutter.name!r} of {self.name!r} looks at the frames themselves; "
                "pass the clips that it cuts"
            )
        check_int("k", k, 1, expected="how many frames to choose, an int of at least 1")
        if k >= len(frames):
            return np.arange(len(frames), dtype=np.int64)
        places = np.sort(self.choose(frames, int(k))).astype(np.int64)
        assert len(np.unique(places)) == len(places) == k, f"{self.name} chose {places.tolist()}, not {k} frames"
        return places

    @abstractmethod
    def choose(self, frames: Frames, k: int) -> Places:
        """`k` different places of `frames`, of which there are more than `k`; any order. 1 <= k < T."""

    def _frames(self, features: Any, seconds: Any, scores: Any) -> Frames:
        rows = unit_rows(as_floats("features", features, 2))
        if self.asks and scores is None:
            raise ValueError(
                f"scores=None, but {self.name!r} chooses by relevance to a question; pass one score per frame, "
                "or take a selector that asks nothing, such as 'uniform'"
            )
        time = None if seconds is None else shown(seconds, len(rows))
        found = relevance(one_each("scores", scores, len(rows))) if self.asks else None
        return Frames(rows, time, found)


KEYFRAMES: Registry[type[KeyframeSelector]] = Registry("keyframe selector", plugins=True)
"""Keyframe selectors by name."""


def keyframes(spec: Any) -> KeyframeSelector:
    """The selector that `spec` states (`maxmin`, `mmr:relevance=0.7`, `{"name": "kffocus", "keys": 0.3}`), or is.

    Raises:
        TypeError: it is neither.
        ValueError: an unknown name or parameter, or a value out of range.
    """
    return build("strategy", spec, KEYFRAMES.get, KeyframeSelector)  # type: ignore[type-abstract]
