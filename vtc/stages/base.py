"""What a stage is: one decision about visual tokens, as a frozen dataclass over pure tensor code."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vtc.core.budget import Keep
from vtc.core.registry import BUILT_IN, Registry
from vtc.core.tokens import Layout, Reduction, VisualTokens


class Stage(ABC):
    """One decision. Its dataclass fields are its parameters; they travel in recipe files."""

    kind: ClassVar[str]
    name: ClassVar[str]
    paper: ClassVar[str] = ""
    """Source: authors' name of the method, arXiv number; empty for folklore."""
    signal: ClassVar[str] = ""
    """What the decision looks at, in a few words."""
    cost: ClassVar[str] = ""
    """Products of token rows that the decision takes, for N tokens of which K stay; empty where it takes none."""
    cues: ClassVar[tuple[str, ...]] = ()
    """Cues that the adapter must compute for this stage."""
    adaptive: ClassVar[bool] = False
    """Whether the total depends on content, so that no exact count can be declared."""
    seeded: ClassVar[bool] = False
    """Whether the stage draws numbers, so that items need a content key."""
    videos: ClassVar[bool] = False
    """Whether the stage looks at what changes from frame to frame, so that an image has nothing for it."""
    thumbnail: ClassVar[bool] = False
    """Whether the stage makes sense only where images come as tiles beside a thumbnail."""

    @property
    def label(self) -> str:
        """The stage's registry name, for example `select/kcenter`."""
        return f"{self.kind}/{self.name}"

    def parameters(self) -> dict[str, Any]:
        """The parameters, by name, as JSON can hold them."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @property
    def refusal(self) -> str | None:
        """Why the stage cannot work in a wrapped model, whatever the model is; None where it can."""
        return None


class InputStage(Stage):
    """Changes what is encoded, so that the encoder has less to do: see `Resizer` and `FrameSelector`."""

    kind = "input"

    @property
    @abstractmethod
    def own_share(self) -> float | None:
        """The share of tokens this stage leaves, or None where it takes the recipe's `keep`."""


class Resizer(InputStage):
    """Encodes fewer pixels: its outputs are fewer tokens, each anchored at a cell of the full grid."""

    @abstractmethod
    def target(self, grid: tuple[int, int, int], count: int) -> tuple[int, int]:
        """The (height, width), in tokens, to encode instead of `grid` (t, h, w).

        Args:
            grid: the unit's grid at full size.
            count: tokens that the recipe wants to reach by this stage; the answer holds at most that many per frame.
        """


class FrameSelector(InputStage):
    """Leaves whole frames of a video out; an image is not touched."""

    @abstractmethod
    def choose(self, frames: Tensor, k: int) -> Tensor:
        """Choose exactly `k` frames.

        Args:
            frames: `[T, F, 3, H, W]` pixels as the encoder sees them, normalised and shrunk: T frames of the layout,
                each of F frames of the video that the encoder takes together.
            k: how many to choose, 1 <= k < T.

        Returns:
            `[k]` int64 on the CPU, ascending and unique.
        """


class Allocator(Stage):
    """How many tokens each unit gets."""

    kind = "allocate"
    joint: ClassVar[bool] = False
    """Whether the selector chooses from all units at once, so that the counts come out of its choice."""

    @property
    def unit_floor(self) -> int:
        """The least tokens of each unit that it asks for, which the report compares with what they got."""
        return 0

    @abstractmethod
    def allocate(self, tokens: VisualTokens, total: int) -> Sequence[int]:
        """One count per unit, which sum to `total` exactly and respect each unit's candidates."""

    def pools(self, tokens: VisualTokens, total: int) -> list[tuple[Tensor, int]]:
        """Which tokens compete with each other, and how many of them stay: by default those of each unit.

        Returns:
            `[M]` int64, ascending candidates, and a count of at most M, for each pool. Counts sum to `total`.
        """
        free, unit = ~tokens.layout.structural, tokens.layout.unit
        counts = self.allocate(tokens, total)
        if self.joint:
            return [(torch.nonzero(free).flatten(), counts[0])]
        return [(torch.nonzero(free & (unit == i)).flatten(), count) for i, count in enumerate(counts)]


@dataclass(frozen=True)
class Pool:
    """Tokens of an item to choose from: the arguments of `Selector.select`."""

    tokens: VisualTokens
    members: Tensor
    k: int
    seed: int


class Selector(Stage):
    """Which candidate tokens stay."""

    kind = "select"

    @abstractmethod
    def select(self, tokens: VisualTokens, pool: Tensor, k: int, *, seed: int) -> Tensor:
        """Choose exactly `k` of the pool.

        Args:
            tokens: the item; features are read in fp32.
            pool: `[M]` int64, the candidates to choose from, ascending: those of one unit, or more where the allocator
                says so.
            k: how many to choose, 1 <= k <= M.
            seed: a number made from the recipe's seed and the item's content.

        Returns:
            `[k]` int64, entries of `pool`, ascending and unique; at most as many, and one at least, of an adaptive
            selector.
        """

    def select_each(self, pools: Sequence[Pool]) -> list[Tensor]:
        """Choose in each of several pools, of one item or more: `select` of each.

        A greedy selector overrides it, so that a GPU takes the steps of all pools at once.
        """
        return [self.select(pool.tokens, pool.members, pool.k, seed=pool.seed) for pool in pools]

    def count(self, layout: Layout, keep: Keep) -> int | None:
        """How many candidates of an item go on, where that is counted otherwise than by `Budget`; None: it is not.

        For methods that must count as a serving engine does. Known before the encoder runs.
        """
        return None


class Merger(Stage):
    """What becomes of the tokens that do not stay."""

    kind = "merge"

    @abstractmethod
    def merge(self, tokens: VisualTokens, anchor: Tensor) -> Reduction:
        """Fold the other candidates into the kept `anchor` tokens `[K]` (structural ones among them)."""


STAGES: Registry[type[Stage]] = Registry("stage", plugins=True, built_in=BUILT_IN)
"""Stage classes by the names that recipe files give them, such as `select/kcenter`."""


def add_stages(*stages: type[Stage]) -> None:
    """Make stages known by name to recipes and recipe files."""
    for stage in stages:
        STAGES.add(f"{stage.kind}/{stage.name}", stage)


def concrete(names: Mapping[str, object]) -> tuple[type[Stage], ...]:
    """The stages among a package's `names` (its `globals()`), without the base classes of their kinds."""
    found = (value for value in names.values() if isinstance(value, type) and issubclass(value, Stage))
    return tuple(stage for stage in found if hasattr(stage, "name") and not inspect.isabstract(stage))
