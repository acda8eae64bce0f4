"""One call of the model while decoder stages act on it: who is visual, who is still there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vtc.core.tokens import Layout

from .report import Stayed
from .sparse_cache import KeptPositions

STEP = "vtc_step"
"""The argument by which a `PrefillState` travels from the model to its decoder layers."""


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
    """What the layers of one call share.

    Attributes:
        items: the call's visual items.
        real: `[B, P + q]` bool, tokens that are no padding, those in the cache among them.
        last: `[B]` the column of the prompt's last token; in training, of the last before the answer.
        offset: P, tokens in the cache before the call.
        length: q, columns of the call.
        here: `[B, n]` the columns that are left, ascending, fillers first; None where all are.
        valid: `[B, n]` which of these are no fillers; None where all are real.
        entered: `[B, q, D]` the states that entered the first layer, kept only where a stage reads them.
        angles: (cos, sin) of all columns.
        planes: each `[B, q, D]`, what is added to the states before the layers from the second on (DeepStack).
        left: for each item, which of its `columns` are left, on the CPU.
        seen: by layer, the queries and keys that a tap caught.
        held: by layer, the positions of its keys, and the first key of this call; only of shortened layers.
        masks: attention masks by number of keys, until more tokens leave.
        kept: by layer with a cut, what it left of each item.
    """

    items: Sequence[ItemColumns]
    real: Tensor
    last: Tensor
    offset: int
    length: int
    here: Tensor | None = None
    valid: Tensor | None = None
    entered: Tensor | None = None
    angles: tuple[Tensor, Tensor] | None = None
    planes: Sequence[Tensor] = ()
    left: list[Tensor] = field(default_factory=list)
    seen: dict[int, Any] = field(default_factory=dict)
    held: dict[int, Any] = field(default_factory=dict)
    masks: dict[int, Tensor | None] = field(default_factory=dict)
    kept: dict[int, tuple[Stayed, ...]] = field(default_factory=dict)
    _turned: tuple[Tensor, tuple[Tensor, Tensor]] | None = None
    _kept: tuple[Tensor, KeptPositions] | None = None

    def __post_init__(self) -> None:
        if not self.left:
            self.left = [torch.arange(len(item.columns)) for item in self.items]

    def ends_before(self, labels: Tensor) -> None:
        """Ends each prompt where its answer begins: what is asked about images must not look ahead.

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
        """`[B, n]` the columns that are left."""
        if self.here is None:
            return torch.arange(self.length, device=device).expand(self.rows, -1)
        return self.here

    def turned(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(cos, sin) of the columns that are left, one pair for all layers until more leave."""
        assert self.angles is not None
        if self.here is None:
            return self.angles
        if self._turned is None or self._turned[0] is not self.here:
            cos, sin = (gathered(angle, self.here).to(device) for angle in self.angles)
            self._turned = self.here, (cos, sin)
        return self._turned[1]

    def placed(self, ids: Tensor | None) -> Tensor | None:
        """Position ids `[..., B or 1, q]` of the columns that are left."""
        if ids is None or self.here is None:
            return ids
        here = self.here.to(ids.device)
        return ids.expand(*ids.shape[:-2], self.rows, -1).gather(-1, here.expand(*ids.shape[:-2], *here.shape))

    def kept_slots(self, device: torch.device) -> KeptPositions:
        """What a cache layer holds of this call: one for all layers until more leave, so that they share masks."""
        here = self.columns(device)
        if self._kept is None or self._kept[0] is not here:
            self._kept = here, KeptPositions(here, self.valid, self.length)
        return self._kept[1]

    def slots(self, device: torch.device) -> Tensor:
        """`[B, q]` the place of each column among those that are left, or of the nearest one before it.

        Columns before the first that is left get the first.
        """
        here = self.columns(device)
        place = torch.arange(here.shape[1], device=here.device).expand_as(here)
        place = place if self.valid is None else place * self.valid
        marked = torch.zeros(self.rows, self.length, dtype=torch.int64, device=here.device)
        marked.scatter_reduce_(1, here, place, "amax")
        first = torch.zeros_like(self.last) if self.valid is None else self.valid.long().argmax(dim=1)
        return torch.maximum(marked.cummax(dim=1).values, first[:, None].to(marked.device))


def gathered(values: Tensor, columns: Tensor) -> Tensor:
    """`values` `[B or 1, q, D]` at `columns` `[B, n]`."""
    values = values.expand(len(columns), -1, -1)
    return values.gather(1, columns.to(values.device)[..., None].expand(-1, -1, values.shape[-1]))
