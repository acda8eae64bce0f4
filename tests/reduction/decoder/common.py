"""What the checks of decoder stages share: stages that choose by lot, and the oracle told what left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import oracle
from tests.families import FAMILIES, Family
from tests.grid import fresh, stock
from vtc import Recipe, Reduction, reduce_tokens
from vtc.reduction.decoder.report import Trace
from vtc.stages import KCenter
from vtc.stages.decoder import Cut, DecoderStage, DecoderTokens

FULL = tuple(family for family in FAMILIES if family.layers == "full" and family.pairs == "halves")
every_full = pytest.mark.parametrize("family", FULL, ids=lambda family: family.name)
FOUR = tuple(f for f in FULL if f.name in ("llava", "qwen25vl", "qwen3vl", "internvl"))
assert len(FOUR) == 4
four = pytest.mark.parametrize("family", FOUR, ids=lambda family: family.name)
BATCHES = {
    "one": [[3, (1, 12, 4), 4]],
    "even": [[3, (1, 12, 4), 4], [3, (2, 12, 4), 4]],
    "uneven": [[3, (1, 12, 4), 4, (2, 4, 8), 5], [2, (3, 8, 6), 6], [9]],
}
"""As `grid.UNEVEN` has them: an int is text, a tuple an image."""


@dataclass(frozen=True)
class ByLot(DecoderStage):
    """A choice that depends on the number of tokens alone."""

    schedule: Any = ((1, 0.5),)
    seed: int = 0
    name = "by-lot"

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + 10 * cut.step + len(tokens))
        return torch.randperm(len(tokens), generator=generator)[:count].sort().values


@dataclass(frozen=True)
class Adaptive(DecoderStage):
    """Another number for each item, whatever is due; nothing of some."""

    schedule: Any = ((1, 0.5),)
    name = "adaptive"
    adaptive = True

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Tensor:
        # Coarse, so that rounding does not change it from one run over the prompt to the next.
        number = int(10 * float(tokens.states[0].detach().double().sum())) % min(7, len(tokens))
        return torch.arange(number)


@dataclass(frozen=True)
class Folding(DecoderStage):
    """Every token is folded into the kept one that its place falls to."""

    schedule: Any = ((1, 0.4),)
    name = "folding"

    def keep(self, tokens: DecoderTokens, count: int, cut: Cut) -> Reduction:
        assign = torch.arange(len(tokens)) * count // len(tokens)
        anchor = torch.searchsorted(assign, torch.arange(count), right=True) - 1
        return Reduction(anchor, assign, 1.0 + torch.arange(len(tokens)) % 3)


SCHEDULES: dict[str, tuple[DecoderStage, ...]] = {
    "nothing": (ByLot(((1, 1.0),)),),
    "layer-0": (ByLot(((0, 0.5),)),),
    "once": (ByLot(((1, 0.5),)),),
    "pyramid": (ByLot(((0, 0.75), (1, 0.4), (2, 0.0))),),
    "withdraw": (ByLot(((2, 0),)),),
    "adaptive": (Adaptive(),),
    "folding": (Folding(),),
    "two-stages": (ByLot(((0, 0.6),)), Folding(((2, 0.3),))),
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


def recipe(schedule: str, *, before: float | None = None) -> Recipe:
    """A schedule, perhaps behind a selector that keeps `before`."""
    stages = SCHEDULES[schedule]
    return Recipe(stages, name=schedule) if before is None else Recipe((KCenter(), *stages), keep=before, name=schedule)


def wrapped(family: Family, chosen: Recipe, attention: str = "sdpa") -> nn.Module:
    """A model of its own."""
    return reduce_tokens(fresh(family, attention), chosen)


def told(model: nn.Module, family: Family, inputs: dict[str, Tensor], *traces: Trace) -> list[oracle.Plan]:
    """The oracle's rows for the last call of a wrapped model, what left each layer among them.

    Where `traces` are given, `inputs` are a whole conversation, and these are of its turns with images.
    """
    found = model.vtc.recipe
    before = replace(found, stages=tuple(s for s in found.stages if not isinstance(s, DecoderStage)) or (KCenter(),))
    plans = oracle.plans(stock(family, "eager"), family, inputs, before)
    found_traces = traces or tuple(t for t in (model.vtc.report.decoder,) if t is not None)
    if not found_traces:
        return plans
    rows = [row for trace in found_traces for row in trace.rows]
    layers = {layer for trace in found_traces for layer in trace.kept}
    kept = {layer: [left for trace in found_traces for left in trace.kept[layer]] for layer in layers}
    of_row = {r: [i for i, row in enumerate(rows) if row == r] for r in range(len(plans))}
    return [_told(planned_cuts, kept, of_row[r], found.decoder) for r, planned_cuts in enumerate(plans)]


def _told(planned_cuts: oracle.Plan, kept: dict[int, Any], mine: Sequence[int], stages: Sequence[Any]) -> oracle.Plan:
    gone: dict[int, list[int]] = {}
    folded: dict[int, Any] = {}
    here = [list(range(len(places))) for places in planned_cuts.places]
    for layer, items in sorted(kept.items()):
        for n, number in enumerate(mine):
            item, places = planned_cuts.items[n], planned_cuts.places[n]
            left = set(items[number].tolist())
            structural = {k for k in here[n] if not bool((item.cells[k] >= 0).all())}
            stay = [k for k in here[n] if item.anchor[k] in left or (left and k in structural)]
            free = [k for k in here[n] if k not in structural]
            if any(isinstance(stage, Folding) and layer in dict(stage.schedule) for stage in stages) and left:
                folded.setdefault(layer, []).extend(_folds(free, [k for k in stay if k not in structural], places))
            gone.setdefault(layer, []).extend(places[k] for k in here[n] if k not in stay)
            here[n] = stay
    return replace(planned_cuts, gone=gone, folded=folded)


def _folds(free: list[int], stay: list[int], places: list[int]) -> list[tuple[int, list[int], list[float]]]:
    """As `Folding` folds: runs as even as whole numbers allow, the last of each stays."""
    groups: dict[int, list[int]] = {}
    for i in range(len(free)):
        groups.setdefault(i * len(stay) // len(free), []).append(i)
    return [
        (places[stay[g]], [places[free[i]] for i in members], [1.0 + i % 3 for i in members])
        for g, members in groups.items()
    ]


Build = Callable[..., Recipe]
with_kcenter = partial(recipe, before=0.5)
