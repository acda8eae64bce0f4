"""State of one prefill while decoder stages act on it: the visual items, and the columns that remain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vtc.core.tokens import Layout

from .report import CutResult
from .sparse_cache import KeptPositions

STEP = "vtc_step"
"""The keyword argument that carries a `PrefillState` from the model to its decoder layers.

An argument of the call and not an attribute of the engine: two threads may run one model, and a call that fails leaves
nothing behind.
"""


@dataclass(frozen=True)
class ItemColumns:
    """An item of the call.

    Attributes:
        row: its row of the batch.
        columns: `[N]` int64, where its candidate tokens stand among the call's columns.
        structural: the same of its structural tokens.
        index: `[N]` int64, which tokens of `layout` the candidates are.
        layout: of the whole item, at full size.
    """

    row: int
    columns: Tensor
    structural: Tensor
    index: Tensor
    layout: Layout


@dataclass
class PrefillState:
    """State that the layers of one call share.

    Attributes:
        items: the call's visual items.
        real: `[B, P + q]` bool, tokens that are no padding, those in the cache among them.
        last: `[B]` the column of the prompt's last token; in training, of the last before the answer.
        offset: P, tokens in the cache before the call.
        length: q, columns of the call.
        remaining: `[B, n]` the remaining columns, ascending, left-padded with fillers; None where all remain.
        valid: `[B, n]` which of these are no fillers; None where all are real.
        entered: `[B, q, D]` the states that entered the first layer, kept only where a stage reads them.
        angles: (cos, sin) of all columns, by layer whose queries and keys are read; None where it turns nothing.
        planes: each `[B, q, D]`, what is added to the states before the layers from the second on (DeepStack).
        item_remaining: for each item, which of its `columns` remain, on the CPU.
        captured: by layer, the queries and keys that `AttentionCapture` recorded.
        key_slots: by layer, the positions of its keys, and the first key of this call; only of shortened layers.
        masks: attention masks by number of keys, until more tokens leave.
        kept: by layer with a cut, its result for each item.
    """

    items: Sequence[ItemColumns]
    real: Tensor
    last: Tensor
    offset: int
    length: int
    remaining: Tensor | None = None
    valid: Tensor | None = None
    entered: Tensor | None = None
    angles: dict[int, tuple[Tensor, Tensor] | None] = field(default_factory=dict)
    planes: Sequence[Tensor] = ()
    item_remaining: list[Tensor] = field(default_factory=list)
    captured: dict[int, Any] = field(default_factory=dict)
    key_slots: dict[int, Any] = field(default_factory=dict)
    masks: dict[int, Tensor | None] = field(default_factory=dict)
    kept: dict[int, tuple[CutResult, ...]] = field(default_factory=dict)
    _rotary: tuple[Tensor, Any, Any] | None = None
    _kept: tuple[Tensor, KeptPositions] | None = None

    def __post_init__(self) -> None:
        if not self.item_remaining:
            self.item_remaining = [torch.arange(len(item.columns)) for item in self.items]

    def ends_before(self, labels: Tensor) -> None:
        """End each prompt where its answer begins: what is asked about images must not look ahead.

        Args:
            labels: `[B, q or P + q]`, -100 where nothing is to be learnt. The answer of a row begins at the first
                label behind its last image; a row with labels right behind that image has no question.
        """
        learnt = labels[:, -self.length :] != -100
        for row in range(self.rows):
            images = [item for item in self.items if item.row == row]
            end = max((int(torch.cat([i.columns, i.structural]).max()) for i in images), default=-1)
            answer = end + 1 + int(learnt[row, end + 1 :].int().argmax()) if bool(learnt[row, end + 1 :].any()) else 0
            if images and answer > end + 1:
                self.last[row] = answer - 1

    @property
    def rows(self) -> int:
        """B."""
        return len(self.last)

    def columns(self, device: torch.device) -> Tensor:
        """Return `[B, n]`, the remaining columns."""
        if self.remaining is None:
            return torch.arange(self.length, device=device).expand(self.rows, -1)
        return self.remaining

    def rotary(self, angles: Any, device: torch.device) -> Any:
        """Return a layer's (cos, sin) of the remaining columns, one pair for layers that are given the same one.

        `angles` are those of all columns, None for a layer without rotary positions.
        """
        if self.remaining is None or angles is None:
            return angles
        if self._rotary is None or self._rotary[0] is not self.remaining or self._rotary[1] is not angles:
            cos, sin = (gathered(angle, self.remaining).to(device) for angle in angles)
            self._rotary = self.remaining, angles, (cos, sin)
        return self._rotary[2]

    def remaining_position_ids(self, ids: Tensor | None) -> Tensor | None:
        """Return the position ids `[..., B or 1, q]` of the remaining columns."""
        if ids is None or self.remaining is None:
            return ids
        remaining = self.remaining.to(ids.device)
        return ids.expand(*ids.shape[:-2], self.rows, -1).gather(
            -1, remaining.expand(*ids.shape[:-2], *remaining.shape)
        )

    def kept_slots(self, device: torch.device) -> KeptPositions:
        """Return the slots that a cache layer gets of this call.

        The same object for all layers until more tokens are dropped: masks are cached by its identity, so layers of one
        length share one mask.
        """
        remaining = self.columns(device)
        if self._kept is None or self._kept[0] is not remaining:
            self._kept = remaining, KeptPositions(remaining, self.valid, self.length)
        return self._kept[1]

    def slots(self, device: torch.device) -> Tensor:
        """`[B, q]` the place of each column among those that are left, or of the nearest one before it.

        Columns before the first that is left get the first.
        """
        remaining = self.columns(device)
        place = torch.arange(remaining.shape[1], device=remaining.device).expand_as(remaining)
        place = place if self.valid is None else place * self.valid
        marked = torch.zeros(self.rows, self.length, dtype=torch.int64, device=remaining.device)
        marked.scatter_reduce_(1, remaining, place, "amax")
        # A running maximum over the columns carries each remaining place to the dropped columns behind it.
        first = torch.zeros_like(self.last) if self.valid is None else self.valid.long().argmax(dim=1)
        return torch.maximum(marked.cummax(dim=1).values, first[:, None].to(marked.device))


def gathered(values: Tensor, columns: Tensor) -> Tensor:
    """`values` `[B or 1, q, D]` at `columns` `[B, n]`."""
    values = values.expand(len(columns), -1, -1)
    return values.gather(1, columns.to(values.device)[..., None].expand(-1, -1, values.shape[-1]))
