"""What a call kept, of what, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from vtc.core.flops import DecoderCost
from vtc.core.tokens import Layout, Reduction

from .decoder.report import Trace

FOLDED = 6
"""Alike units side by side of which a report's text says more than one line can hold: they are summed up."""


class PhaseTimer:
    """Seconds by phase. On a GPU it waits for the device, since work is only queued there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Add the time of the block to `phase`."""
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
    cells: Tensor = field(repr=False)

    def to_dict(self, cells: bool = False) -> dict[str, Any]:
        """The unit as JSON can hold it; `cells` adds the cells kept, a (t, h, w) each."""
        found: dict[str, Any] = {
            "kind": self.kind,
            "grid": list(self.grid),
            "before": self.before,
            "after": self.after,
            "structural": self.structural,
        }
        return {**found, "cells": self.cells.tolist()} if cells else found


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
    layout: Layout = field(repr=False)
    reduction: Reduction = field(repr=False)
    floor: int = 0

    def __str__(self) -> str:
        return f"{self.modality} (row {self.row}): {', '.join(_folded(self.units))}"

    def to_dict(self, cells: bool = False) -> dict[str, Any]:
        """The item as JSON can hold it; `cells` adds those kept of each unit."""
        return {
            "modality": self.modality,
            "row": self.row,
            "before": self.before,
            "after": self.after,
            "structural": self.structural,
            "floor": self.floor,
            "units": [unit.to_dict(cells) for unit in self.units],
        }

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


def _folded(units: tuple[UnitReport, ...]) -> Iterator[str]:
    """What became of each unit, and of many alike ones side by side, such as a video's frames, together."""
    for (kind, grid), group in groupby(units, lambda unit: (unit.kind, unit.grid)):
        alike = list(group)
        size = "x".join(map(str, grid))
        if len(alike) < FOLDED:
            yield from (f"{kind} {size}: {unit.after} of {unit.before}" for unit in alike)
            continue
        least, most = min(u.after for u in alike), max(u.after for u in alike)
        each = f"{least} each" if least == most else f"{least} to {most} each"
        total = f"{sum(u.after for u in alike)} of {sum(u.before for u in alike)}"
        yield f"{len(alike)} {kind}s {size}: {total}, {each}"


@dataclass(frozen=True, repr=False)
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
        unread: visual tokens of frames that were left out before the processor saw them, which the stock model would
            have passed on too: see `with_unread`.
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
    unread: int = 0

    @property
    def before(self) -> int:
        """Visual tokens that the stock model would have passed on, structural ones among them."""
        return sum(item.before + item.structural for item in self.items) + self.unread

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

    def with_unread(self, tokens: int, cost: DecoderCost) -> Report:
        """The report of a prompt of one row for which `tokens` more would have been read, had no frame been left out.

        Args:
            cost: of the model's decoder.
        """
        if not tokens or len(self.prompt_before) != 1:
            return self
        (before,) = self.prompt_before
        whole = before + tokens
        return replace(
            self,
            unread=tokens,
            prompt_before=(whole,),
            kv_bytes_saved=self.kv_bytes_saved + cost.cached_bytes(whole) - cost.cached_bytes(before),
            prefill_flops_before=self.prefill_flops_before + cost.prefill_flops(whole) - cost.prefill_flops(before),
        )

    def to_dict(self, cells: bool = False) -> dict[str, Any]:
        """The report as JSON can hold it: counts, sizes and seconds.

        Args:
            cells: adds the cells kept of each unit; of a long video they are many.
        """
        decoder = None
        if self.decoder is not None:
            decoder = {"layers": list(self.decoder.layers), "mean": self.decoder.mean, "share": self.decoder.share}
        return {
            "recipe": self.recipe,
            "before": self.before,
            "after": self.after,
            "structural": self.structural,
            "unread": self.unread,
            "items": [item.to_dict(cells) for item in self.items],
            "prompt_before": list(self.prompt_before),
            "prompt_after": list(self.prompt_after),
            "kv_bytes_saved": self.bytes_saved,
            "prefill_flops_before": self.prefill_flops_before,
            "prefill_flops_after": self.flops_after,
            "seconds": dict(self.seconds),
            "decoder": decoder,
            "window": self.window,
        }

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The report in a notebook: a row for each item, and what it saved."""
        head = "".join(f"<th>{name}</th>" for name in ("", "item", "row", "before", "after", "structural", "units"))
        rows = "".join(_html_row(i, item) for i, item in enumerate(self.items))
        cost = "<br>".join(escape(line.strip()) for line in self._cost())
        return f"<table><caption>{escape(self._head())}</caption><tr>{head}</tr>{rows}</table><p>{cost}</p>"

    def __str__(self) -> str:
        lines = [self._head()]
        for i, item in enumerate(self.items):
            lines.append(f"  {item.modality} {i} (row {item.row}): {', '.join(_folded(item.units))}")
            if item.below_floor:
                few = f"{len(item.below_floor)} of {len(item.units)} units"
                lines.append(f"    floor={item.floor} gave way in {few}: {item.after} tokens do not reach for all")
        return "\n".join([*lines, *self._cost()])

    def _head(self) -> str:
        unread = f", {self.unread} of frames that were not read" if self.unread else ""
        return f"{self.recipe}: {self.after} of {self.before} visual tokens ({self.structural} structural{unread})"

    def _cost(self) -> Iterator[str]:
        """What the call saved and took, and what limits it, a line each."""
        if self.seconds:
            if self.decoder is not None:
                yield f"  {self.decoder}"
            flops = 1 - self.flops_after / max(1, self.prefill_flops_before)
            spent = ", ".join(f"{phase} {seconds * 1e3:.1f} ms" for phase, seconds in self.seconds.items())
            yield f"  saved: {self.bytes_saved / 2**20:.2f} MiB of KV cache, {flops:.0%} of prefill FLOPs"
            yield f"  spent: {spent}"
        if self.window is not None:
            yield f"  some layers see {self.window} tokens back, now those of the shortened prompt"


def _html_row(place: int, item: ItemReport) -> str:
    counts = (item.row, item.before, item.after, item.structural)
    cells = (place, item.modality, *counts, ", ".join(_folded(item.units)))
    return f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>"
