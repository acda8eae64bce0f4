"""Groups as in a video codec: each begins with a key frame that is chosen, the others are sampled sparsely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vtc.core.allocation import allocate
from vtc.core.validation import check_number
from vtc.video.clips.frame_arrays import Floats, changes

from .base import (
    Frames,
    KeyframeSelector,
    Places,
)
from .spread import spread


@dataclass(frozen=True)
class KFFocus(KeyframeSelector):
    """Two densities per group of frames, after the idea of KFFocus (arXiv 2508.08989), which has no code.

    From the paper's abstract: frames are told apart by temporal redundancy, as by a codec, into key frames and others,
    and the others are reduced further. The rest is reconstruction. A group begins at the first frame and wherever a
    frame is least like the one before it, at no more than `round(k * keys)` places; nothing begins where nothing
    changes. All frames that begin a group are chosen. What is left of k is shared over the groups by the time that
    their other frames are shown, as sparse as that makes it, and spread evenly in time inside each
    (`spread.spread`). A video in which nothing changes is sampled as `uniform` does.

    The other half of the idea, more tokens for key frames than for others, is `vtc.video.clips.budgets.frame_weights`.

    Attributes:
        keys: the share of choices, 0 to 1, that may be key frames; there is at least one.
    """

    keys: float = 0.5

    name = "kffocus"
    paper = "KFFocus, 2508.08989 (its idea; no code exists)"
    signal = "change from frame to frame"

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", check_number("keys", self.keys, 0, 1))

    def choose(self, frames: Frames, k: int) -> Places:
        """See `KeyframeSelector.choose`."""
        change = changes(frames.rows)
        if not change.any():
            return spread(frames.seconds, len(frames), k)
        starts = key_frames(change, max(1, int(k * self.keys + 0.5)))
        time = np.ones(len(frames)) if frames.seconds is None else frames.seconds
        groups = [np.arange(a + 1, b) for a, b in zip(starts, [*starts[1:], len(frames)], strict=True)]
        shown = [float(time[group].sum()) for group in groups]
        counts = allocate(shown, k - len(starts), max_per=[len(group) for group in groups])
        sparse = [group[spread(time[group], len(group), n)] for group, n in zip(groups, counts, strict=True) if n]
        return np.concatenate([starts, *sparse])


def key_frames(change: Floats, most: int) -> Places:
    """The first frame and the `most - 1` that changed most, `[<= most]` ascending; the earlier of equal ones.

    Args:
        change: `[T]` of each frame to the one before, 0 for the first and for repeats, which are never key frames.
        most: at least 1.
    """
    order = np.argsort(-change, kind="stable")[: most - 1]
    return np.sort(np.append(order[change[order] > 0], 0))
