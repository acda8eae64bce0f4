"""Clip budgets that look at the question too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vtc.core.tokens import FRAMES, QUESTION, VisualTokens
from vtc.stages.ops import unit_rows
from vtc.video.clips.clip import Clip
from vtc.video.clips.weights import ClipWeights

from .clip_budget import ClipBudget


@dataclass(frozen=True)
class QuestionBudget(ClipBudget):
    """`ClipBudget` in which clips weigh more where a token resembles a word of the question.

    A frame's score is the largest cosine of one of its tokens to an embedding of the text beside the video, both less
    their mean, since all tokens point one way and all words another. Scores are stretched over the video, so that flat
    ones say nothing and the budget is `ClipBudget`'s (`ClipWeights.relevance`). How well tokens and words compare
    depends on the model: nothing in its training asks for it. Tokens of a clip compete as there, blind to the question.

    Attributes:
        relevance: exponent of the score: a clip weighs up to `2 ** relevance` times as much.
    """

    relevance: float = 1.0

    name = "question-clips"
    paper = ""
    signal = "pixels of the frames, by clip, and words that resemble a token"
    cost = "N·words"
    cues = (FRAMES, QUESTION)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "relevance", self.weights.relevance)

    @property
    def weights(self) -> ClipWeights:
        """Weight rule of a clip."""
        return replace(super().weights, relevance=self.relevance)

    def weighed(self, tokens: VisualTokens) -> tuple[Sequence[Clip], Sequence[float]]:
        """See `OverClips.weighed`.

        Raises:
            ValueError: there is no text beside the video.
        """
        features, clips = self._seen(tokens)
        return clips, self.weights.weigh(clips, features, scores=relevance(tokens).cpu().numpy()).tolist()


def relevance(tokens: VisualTokens) -> Tensor:
    """`[T]` how much each frame resembles a word of the text beside the video, fp32.

    Raises:
        ValueError: there is no text.
    """
    words = tokens.cue(QUESTION).detach().float()
    if not len(words):
        raise ValueError(
            "the recipe reads the question, and the prompt has no text beside the video; ask something, or take a "
            "recipe that reads none, such as 'video'"
        )
    layout, rows = tokens.layout, unit_rows(tokens.features)
    free = (~layout.structural).to(rows.device)
    centred = unit_rows(rows - rows[free].mean(dim=0))[free]
    words = unit_rows(words)
    like = (centred @ unit_rows(words - words.mean(dim=0)).T).amax(dim=1).float().round(decimals=6)
    frame = layout.unit.to(rows.device)[free]
    lowest = torch.full((len(layout.grids),), -1.0, device=rows.device)
    return lowest.scatter_reduce(0, frame, like, "amax")
