"""What a call kept, of what, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vtc.core.tokens import Layout, Reduction

from .decoder.report import Trace


class PhaseTimer:
    """Seconds by phase. On a GPU it waits for the device, since work is only queued there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Adds the time of the block to `phase`."""
        start = self._now()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + self._now() - start

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


@dataclass(frozen=True)
class UnitReport:
    """One tile, thumbnail, frame or clip.

    Attributes:
        kind: what it is.
        grid: its (t, h, w) size in tokens.
        before, after: candidate tokens, and those kept.
        structural: structural tokens, all kept.
        cells: `[after, 3]` the (t, h, w) cells kept.
    """

    kind: str
    grid: tuple[int, int, int]
    before: int
    after: int
    structural: int
    cells: Tensor


@dataclass(frozen=True)
class ItemReport:
    """One image or video.

    Attributes:
        modality: `image` or `video`.
        row: its row of the batch.
        units: what the budget was shared over.
        layout: where its tokens stand.
        reduction: what became of them.
        floor: the least tokens of each unit that the recipe asks for, all of a unit that has fewer.
    """

    modality: str
    row: int
    units: tuple[UnitReport, ...]
    layout: Layout
    reduction: Reduction
    floor: int = 0

    @classmethod
    def of(cls, modality: str, row: int, layout: Layout, reduction: Reduction, floor: int = 0) -> ItemReport:
        """The report on one item."""
        reduction = reduction.to("cpu")
        kept = torch.zeros(len(layout), dtype=torch.bool)
        kept[reduction.anchor] = True
        counts = zip(layout.kinds, layout.grids, layout.candidates, layout.structurals, strict=True)
        units = []
        for unit, (kind, grid, before, structural) in enumerate(counts):
            cells = layout.cell[kept & ~layout.structural & (layout.unit == unit)]
            units.append(UnitReport(kind, grid, before, len(cells), structural, cells))
        return cls(modality, row, tuple(units), layout, reduction, floor)

    @property
    def below_floor(self) -> tuple[UnitReport, ...]:
        """The units that keep fewer tokens than the recipe's floor, since the item keeps too few for that of all."""
        return tuple(unit for unit in self.units if unit.after < min(self.floor, unit.before))

    @property
    def before(self) -> int:
        """Candidate tokens of the item."""
        return sum(unit.before for unit in self.units)

    @property
    def after(self) -> int:
        """Candidate tokens kept."""
        return sum(unit.after for unit in self.units)

    @property
    def structural(self) -> int:
        """Structural tokens, all kept."""
        return sum(unit.structural for unit in self.units)


@dataclass(frozen=True)
class Report:
    """One call.

    Attributes:
        recipe: the recipe's name.
        items: what was kept of each item: images, then videos, each in prompt order.
        prompt_before, prompt_after: real tokens of each row of the conversation, those in the cache among them.
        kv_bytes_saved: bytes of keys and values of the conversation that are not cached, over all rows, by arithmetic
            from the config.
        prefill_flops_before, prefill_flops_after: FLOPs of the decoder layers over what this call reads, likewise:
            tokens in the cache are attended to, not read again. The encoder, the selection and the vocabulary head are
            not in it.
        seconds: measured, by phase, as they begin: `select` (of frames, and later of tokens), `encode`, `merge`,
            `splice`; empty where nothing was reduced.
        decoder: what decoder stages did, once the prompt was read; None where there are none. The numbers above are
            then of tokens as they enter the first layer, in earlier turns too.
        window: how many tokens back some layers see, where the unreduced prompt is longer; else None. They count the
            tokens of the shortened prompt, so that a kept token sees further back than it did.
    """

    recipe: str
    items: tuple[ItemReport, ...]
    prompt_before: tuple[int, ...] = ()
    prompt_after: tuple[int, ...] = ()
    kv_bytes_saved: int = 0
    prefill_flops_before: int = 0
    prefill_flops_after: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    decoder: Trace | None = None
    window: int | None = None

    @property
    def before(self) -> int:
        """Visual tokens that the stock model would have passed on, structural ones among them."""
        return sum(item.before + item.structural for item in self.items)

    @property
    def after(self) -> int:
        """Visual tokens passed on, structural ones among them."""
        return sum(item.after + item.structural for item in self.items)

    @property
    def structural(self) -> int:
        """Structural tokens."""
        return sum(item.structural for item in self.items)

    @property
    def flops_after(self) -> int:
        """`prefill_flops_after`, less what decoder stages saved of it once the prompt was read."""
        return self.prefill_flops_after if self.decoder is None else self.decoder.prefill_flops

    @property
    def bytes_saved(self) -> int:
        """`kv_bytes_saved`, and what decoder stages saved once the prompt was read."""
        return self.kv_bytes_saved + (0 if self.decoder is None else self.decoder.kv_bytes_saved)

    def __str__(self) -> str:
        lines = [f"{self.recipe}: {self.after} of {self.before} visual tokens ({self.structural} structural)"]
        for i, item in enumerate(self.items):
            units = ", ".join(f"{u.kind} {'x'.join(map(str, u.grid))}: {u.after} of {u.before}" for u in item.units)
            lines.append(f"  {item.modality} {i} (row {item.row}): {units}")
            if item.below_floor:
                few = f"{len(item.below_floor)} of {len(item.units)} units"
                lines.append(f"    floor={item.floor} gave way in {few}: {item.after} tokens do not reach for all")
        if self.seconds:
            flops = 1 - self.flops_after / max(1, self.prefill_flops_before)
            if self.decoder is not None:
                lines.append(f"  {self.decoder}")
            spent = ", ".join(f"{phase} {seconds * 1e3:.1f} ms" for phase, seconds in self.seconds.items())
            lines.append(f"  saved: {self.bytes_saved / 2**20:.2f} MiB of KV cache, {flops:.0%} of prefill FLOPs")
            lines.append(f"  spent: {spent}")
        if self.window is not None:
            lines.append(f"  some layers see {self.window} tokens back, now those of the shortened prompt")
        return "\n".join(lines)
