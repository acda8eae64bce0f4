"""Base of decoder stages: at which layers of the language model visual tokens are dropped, and which remain."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from vtc.core.budget import Budget
from vtc.core.tokens import Layout, Reduction
from vtc.core.validation import is_number
from vtc.stages.base import Stage

from .attention import Attention

Depth = float | int
"""A layer of the decoder: its index (int), or a share of the number of layers (float in [0, 1), rounded)."""
Share = float | int
"""What stays from a layer on: a share in [0, 1] of an item's tokens at the first layer, or at most that many (int)."""
Schedule = tuple[tuple[Depth, Share], ...]


@dataclass(frozen=True)
class Reads:
    """Which attention a stage must be shown.

    Attributes:
        source: `previous`: of the layer before the cut, which runs anyway; `own`: of the layer that the shortened
            sequence enters next, whose queries and keys are computed once more for it.
        rows: the queries: `last`, the prompt's last token; `text`, all text behind the item; `all`, this text and the
            item's own tokens.
        entry: whether the stage compares what entered the first layer too.
        unrotated: whether it asks for attention without rotary positions.
    """

    source: str
    rows: str = "last"
    entry: bool = False
    unrotated: bool = False


@dataclass(frozen=True)
class DecoderTokens:
    """The candidate tokens of one item at the entry of a decoder layer.

    Attributes:
        states: `[N, D]` hidden states.
        layout: of the whole item, at full size.
        index: `[N]` int64, which tokens of `layout` are still here, ascending.
        first: how many there were at the first layer.
        entered: `[first, D]` all of the item's candidates as they entered the first layer, those that left since among
            them; None unless the stage reads the entry.
        words: `[T, D]` the text behind the item in its row, as it entered the first layer; or None.
        attention: what the stage `reads`, or None.
    """

    states: Tensor
    layout: Layout
    index: Tensor
    first: int
    entered: Tensor | None = None
    words: Tensor | None = None
    attention: Attention | None = None

    def __len__(self) -> int:
        return len(self.states)

    @property
    def shown(self) -> Attention:
        """`attention`, which the engine gives to every stage that `reads`."""
        assert self.attention is not None
        return self.attention


@dataclass(frozen=True)
class Cut:
    """One resolved step of a schedule.

    Attributes:
        layer: tokens leave before this layer.
        keep: what stays; 0 withdraws all.
        step: its place in the stage's schedule.
    """

    layer: int
    keep: Share
    step: int

    def count(self, first: int) -> int:
        """Return how many of an item's `first` tokens stay."""
        return 0 if self.keep == 0 else Budget(self.keep).count(first)


class DecoderStage(Stage):
    """Drops or merges visual tokens inside the language model. A field `schedule` says where and how many."""

    kind = "decoder"
    reads: ClassVar[Reads | None] = None
    schedule: Schedule

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", check_schedule(self.schedule))

    def cuts(self, depth: int) -> tuple[Cut, ...]:
        """The schedule for a decoder of `depth` layers.

        Raises:
            ValueError: a layer that the decoder does not have, or layers that are not ascending there.
        """
        # A share of a shallow decoder is never so early that the layer it scores by does not exist.
        least = int(self.reads is not None and self.reads.source == "previous")
        found = [Cut(resolve(layer, depth, least), keep, i) for i, (layer, keep) in enumerate(self.schedule)]
        for cut, (layer, _) in zip(found, self.schedule, strict=True):
            if cut.layer >= depth:
                raise ValueError(
                    f"{self.name}: schedule names layer {layer!r}, and the decoder has layers 0 to {depth - 1}; name "
                    "one of them, or a share of the depth such as 0.5"
                )
        # In a shallow decoder two shares of the depth may mean one layer: what the last of them keeps is kept.
        shares = [isinstance(layer, float) for layer, _ in self.schedule]
        met = [i for i in range(1, len(found)) if shares[i] and shares[i - 1] and found[i].layer == found[i - 1].layer]
        found = [cut for i, cut in enumerate(found) if i + 1 not in met]
        if any(b.layer <= a.layer for a, b in pairwise(found)):
            layers = [cut.layer for cut in found]
            raise ValueError(
                f"{self.name}: schedule={self.schedule} means layers {layers} of {depth}; each must come after the one "
                "before"
            )
        return tuple(found)

    @abstractmethod
    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Tensor | Reduction:
        """Return which of an item's candidate tokens stay.

        Args:
            tokens: the item at this layer.
            count: how many are due, 1 <= count < N; 0 never comes here but for adaptive stages.
            cut: the step of the schedule.

        Returns:
            `[count]` int64 places among the N tokens, ascending and unique; or a `Reduction` of the N tokens with that
            many anchors, where others are folded in. An adaptive stage may answer another number.
        """


def resolve(layer: Depth, depth: int, least: int = 0) -> int:
    """The index of a layer named by number, or by share of the depth: the nearest from `least` on, the later of two."""
    return layer if isinstance(layer, int) else max(least, min(depth - 1, int(layer * depth + 0.5 + 1e-9)))


def check_schedule(schedule: Any) -> Schedule:
    """`schedule` as a tuple of (layer, keep).

    Raises:
        TypeError: something else than pairs of numbers.
        ValueError: a value out of range, or a keep that grows.
    """
    if not isinstance(schedule, Sequence) or isinstance(schedule, str) or not schedule:
        raise TypeError(f"schedule={schedule!r}; expected [(layer, keep), ...], such as [(0.5, 0.25)]")
    pairs = tuple(_pair(entry) for entry in schedule)
    for (_, before), (layer, after) in pairwise(pairs):
        if isinstance(before, float) is isinstance(after, float) and after > before:
            raise ValueError(
                f"schedule={pairs}: keep grows from {before} to {after} at layer {layer}, and tokens that left do not "
                "come back; give keeps that fall"
            )
        if isinstance(before, float) is not isinstance(after, float) and after != 0:
            raise ValueError(f"schedule={pairs} mixes shares and counts; give keeps of one kind")
    return pairs


def _pair(entry: Any) -> tuple[Depth, Share]:
    numbers = isinstance(entry, Sequence) and len(entry) == 2 and all(is_number(x) for x in entry)
    if not numbers:
        raise TypeError(f"schedule holds {entry!r}; expected a pair (layer, keep) of numbers")
    layer, keep = entry
    if not layer >= 0 or (isinstance(layer, float) and layer >= 1):  # so that NaN is refused too
        raise ValueError(
            f"schedule names layer {layer!r}; expected an index from 0 on, or a share of the depth in [0, 1)"
        )
    if not keep >= 0 or (isinstance(keep, float) and keep > 1):
        raise ValueError(f"schedule has keep={keep!r} at layer {layer!r}; expected a share in [0, 1], or a count")
    return layer, keep


def places(chosen: Tensor) -> Tensor:
    """Return where the bool `chosen` `[N]` is true, ascending."""
    return torch.nonzero(chosen).flatten()
