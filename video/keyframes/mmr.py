"""Relevant to the question, and unlike what is already chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vtc.core.validation import check_number
from vtc.video.clips.frame_arrays import lowest

from .base import (
    Frames,
    KeyframeSelector,
    Places,
)
from .spread import spread


@dataclass(frozen=True)
class MMR(KeyframeSelector):
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) on frames.

    The first choice is the frame of the highest score. Each next one has the highest
    `relevance * score - (1 - relevance) * cosine`, the scores stretched to 0 to 1 over the video, the cosine being the
    largest to a chosen frame. Flat scores fall back to `uniform`: a question about the whole video is answered best
    from even cover (DIG, arXiv 2512.04000).

    Attributes:
        relevance: the lambda of the rule, 0 (diversity alone) to 1 (scores alone).
    """

    relevance: float = 0.5

    name = "mmr"
    paper = "maximal marginal relevance, SIGIR 1998"
    signal = "relevance to the question, and diversity of the features"
    asks = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "relevance", check_number("relevance", self.relevance, 0, 1))

    def choose(self, frames: Frames, k: int) -> Places:
        """See `KeyframeSelector.choose`."""
        if frames.scores is None:
            return spread(frames.seconds, len(frames), k)
        taken = np.zeros(len(frames), dtype=bool)
        near = np.full(len(frames), -1.0)
        place = lowest(-frames.scores, taken)
        chosen = [place]
        while len(chosen) < k:
            taken[place] = True
            near = np.maximum(near, frames.rows @ frames.rows[place])
            place = lowest((1 - self.relevance) * near - self.relevance * frames.scores, taken)
            chosen.append(place)
        return np.array(chosen, dtype=np.int64)
