"""Interface of an encoder stage to the hooks; the stages themselves live a level above."""

from __future__ import annotations

from typing import Protocol

from .merge_steps import LayerView, MergeStep


class MergeSchedule(Protocol):
    """How many tokens each layer of a vision tower leaves, and which it merges: see `vtc.stages.EncoderStage`."""

    @property
    def label(self) -> str:
        """The name that errors use."""

    @property
    def needs_cls(self) -> bool:
        """Whether it looks at the class token."""

    @property
    def proportional(self) -> bool:
        """Whether attention weighs a token by the number of patches that it stands for."""

    @property
    def spread(self) -> bool:
        """Whether survivors are given back to all their cells at the tower's end."""

    def check_layers(self, layers: int) -> None:
        """Raise ValueError where it is made for a tower of another depth."""

    def schedule(self, candidates: int, target: int, layers: int) -> tuple[int, ...]:
        """Return how many candidates are left behind each of `layers`."""

    def fold(self, view: LayerView, left: int) -> MergeStep:
        """Merge one layer's candidates into exactly `left`."""
