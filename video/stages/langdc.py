"""Richer clips get more tokens: budgets by how little a clip's tokens repeat each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vtc.core.tokens import VisualTokens
from vtc.core.validation import check_int
from vtc.stages.ops import unit_rows
from vtc.video.clips.clip import Clip
from vtc.video.clips.weights import ClipWeights

from .over_clips import OverClips


@dataclass(frozen=True)
class SemanticDensity(OverClips):
    """Clips of equal length, each weighing `length * (1 + density) ** exponent`.

    The idea of LangDC (clips of four frames, each with as many tokens as its content needs), without its training:
    there a small language model describes the clip, and its description's hidden states, up to its own end of
    sentence, are the tokens. Here the clip keeps tokens of its own, and how many is measured: density is the mean
    cosine distance over all pairs of its tokens (`ClipWeights.density`), centred by the video's mean token, since
    what all tokens share says nothing of any.

    Attributes:
        frames: of a clip, as units of the encoder; the last clip may be shorter.
        exponent: how much density counts, 0 to 32; a clip of unlike tokens weighs up to `2 ** exponent` times as much
            as one that repeats itself.
    """

    frames: int = 4
    exponent: float = 4.0

    name = "semantic-density"
    paper = "LangDC (its budgets, without its training)"
    signal = "how unlike the tokens of a clip are"
    cost = "N"

    def __post_init__(self) -> None:
        frames = check_int("frames", self.frames, 1, expected="how many frames a clip has, an int of at least 1")
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "exponent", self._weights.density)

    @property
    def _weights(self) -> ClipWeights:
        return ClipWeights(length=1, novelty=0, motion=0, density=self.exponent, relevance=0)

    def weighed(self, tokens: VisualTokens) -> tuple[Sequence[Clip], Sequence[float]]:
        """See `OverClips.weighed`."""
        layout, rows = tokens.layout, unit_rows(tokens.features)
        units = len(layout.grids)
        clips = [Clip(a, min(a + self.frames, units), "even" if a else "start") for a in range(0, units, self.frames)]
        free = ~layout.structural
        centred = unit_rows(rows - rows[free.to(rows.device)].mean(dim=0))
        weights = []
        for clip in clips:
            inside = free & (layout.unit >= clip.start) & (layout.unit < clip.end)
            density = _density(centred[inside.to(rows.device)])
            weights.append(int(inside.sum()) * (1 + density) ** self.exponent)
        return clips, weights


def _density(rows: Tensor) -> float:
    """The mean cosine distance over all pairs of unit rows `[n, D]`, each with itself too; 0 to 1."""
    if not len(rows):
        return 0.0
    mean = rows.mean(dim=0)
    return float((1 - mean @ mean).clamp(0, 1))
