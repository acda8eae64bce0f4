"""All visual tokens leave at once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import (
    Cut,
    DecoderStage,
    DecoderTokens,
    Schedule,
)


@dataclass(frozen=True)
class VTW(DecoderStage):
    """Withdraws every visual token before one layer: no score, and nothing of the image after it.

    Attributes:
        schedule: the paper's default is layer 15 of 32; it searches the layer by the KL divergence of the answers.
    """

    schedule: Schedule = ((0.46875, 0),)

    name = "vtw"
    paper = "VTW, 2405.05803"
    signal = "nothing"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule[-1][1] != 0 or len(self.schedule) > 1:
            raise ValueError(f"schedule={self.schedule}: 'vtw' withdraws all at one layer; give [(layer, 0)]")

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Tensor:
        """Never asked: withdrawing takes no choice."""
        raise AssertionError("a count of 0 takes no choice")
