"""What a stage is: one decision about visual tokens, as a frozen dataclass over pure tensor code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from torch import Tensor

from ..registry import Registry
from ..tokens import Reduction, VisualTokens


class Stage(ABC):
    """One decision. Its dataclass fields are its parameters; they travel in recipe files."""

    kind: ClassVar[str]
    name: ClassVar[str]
    paper: ClassVar[str] = ""
    """Source: authors' name of the method, arXiv number; empty for folklore."""
    signal: ClassVar[str] = ""
    """What the decision looks at, in a few words."""
    cues: ClassVar[tuple[str, ...]] = ()
    """Cues that the adapter must compute for this stage."""
    adaptive: ClassVar[bool] = False
    """Whether the total depends on content, so that no exact count can be declared."""
    seeded: ClassVar[bool] = False
    """Whether the stage draws numbers, so that items need a content key."""
    thumbnail: ClassVar[bool] = False
    """Whether the stage makes sense only where pictures come as tiles beside a thumbnail."""

    @property
    def label(self) -> str:
        """The stage's registry name, for example `select/kcenter`."""
        return f"{self.kind}/{self.name}"

    def parameters(self) -> dict[str, Any]:
        """The parameters, by name, as JSON can hold them."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]


class InputStage(Stage):
    """Changes what is encoded: its outputs are fewer tokens, each anchored at a cell of the full grid."""

    kind = "input"

    @abstractmethod
    def target(self, grid: tuple[int, int, int], count: int) -> tuple[int, int]:
        """The (height, width), in tokens, to encode instead of `grid` (t, h, w).

        Args:
            grid: the unit's grid at full size.
            count: tokens that the recipe wants to reach by this stage; the answer holds at most that many per frame.
        """

    @property
    @abstractmethod
    def own_share(self) -> float | None:
        """The share of tokens this stage leaves, or None where it takes the recipe's `keep`."""


class Allocator(Stage):
    """How many tokens each unit gets."""

    kind = "allocate"
    joint: ClassVar[bool] = False
    """Whether the selector chooses from all units at once, so that the counts come out of its choice."""

    @abstractmethod
    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """One count per unit, which sum to `total` exactly and respect each unit's candidates."""


class Selector(Stage):
    """Which candidate tokens stay."""

    kind = "select"

    @abstractmethod
    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """Chooses exactly `k` of the pool.

        Args:
            tokens: the item; features are read in fp32.
            pool: `[M]` int64, the candidates to choose from, ascending: those of one unit, or of the whole item where
                the allocator is `joint`.
            k: how many to choose, 1 <= k <= M.
            seed: a number made from the recipe's seed and the item's content.

        Returns:
            `[k]` int64, entries of `pool`, ascending and unique.
        """


class Merger(Stage):
    """What becomes of the tokens that do not stay."""

    kind = "merge"

    @abstractmethod
    def merge(self, tokens: VisualTokens, anchor: Tensor) -> Reduction:
        """Folds the other candidates into the kept `anchor` tokens `[K]` (structural ones among them)."""


STAGES: Registry[type[Stage]] = Registry("stage")


def enrol(*stages: type[Stage]) -> None:
    """Makes stages known by name to recipes and recipe files."""
    for stage in stages:
        STAGES.add(f"{stage.kind}/{stage.name}", stage)
