"""Base of encoder stages: a schedule over the layers of a vision tower, and the merge step of one layer."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from vtc.encoder.merge_steps import LayerView, MergeStep
from vtc.stages.base import Stage


class EncoderStage(Stage):
    """Folds tokens together layer by layer. Its counts are known before the encoder runs."""

    kind = "encoder"
    needs_cls: ClassVar[bool] = False
    """Whether it looks at the class token, so that a tower without one cannot be used."""
    proportional: bool = True
    """Whether the attention of later layers weighs a token by the number of patches that it stands for."""
    spread: bool = False
    """Whether survivors are given back to all their cells at the tower's end, so that the count stays what it was."""

    @property
    @abstractmethod
    def own_share(self) -> float | None:
        """The share of patches that survive, or None where it takes the recipe's `keep`."""

    def check_layers(self, layers: int) -> None:
        """Raise ValueError where the stage is made for a tower of another depth; most fit any."""

    @abstractmethod
    def schedule(self, candidates: int, target: int, layers: int) -> tuple[int, ...]:
        """Return how many of an image's `candidates` are left behind each of `layers`; the last entry is `target`.

        Raises:
            ValueError: the layers cannot end on that number.
        """

    @abstractmethod
    def fold(self, view: LayerView, left: int) -> MergeStep:
        """Fold one layer's candidates into exactly `left`, alike in number for each image of the batch."""
