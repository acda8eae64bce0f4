"""What a check finds, and how differences are measured and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vtc.core.tokens import QUESTION, VisualTokens
from vtc.reduction.api import reduced
from vtc.reduction.pipeline import encoder_cues

from .capture import GenerationCapture
from .context import CheckPrompt, CheckRun

TIMES = 4
"""How many times larger than the stock model's own difference one may be."""
SPREAD = "of the logits' spread"


@dataclass(frozen=True)
class CheckResult:
    """What a check found in one trial.

    Attributes:
        worst: the worst figure.
        allowed: the largest that passes.
        unit: what `worst` counts; a difference of logits is a share of their spread, see `drift`.
        stock: the same difference within the stock model, where it was asked for.
        note: what the figure should be read with.
    """

    worst: float
    allowed: float = 0.0
    unit: str = ""
    stock: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the figure passes. NaN does not."""
        return self.worst <= self.allowed

    def __str__(self) -> str:
        notes = [f"{self.allowed:.2g} allowed", self.note]
        notes += [f"the stock model's own: {self.stock:.1e}"] if self.stock is not None else []
        return f"{self.worst:.2g} {self.unit} ({'; '.join(filter(None, notes))})"


def drift(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> float:
    """How far the logits of one row are apart, until the tokens part: a share of the spread of each step's logits.

    Tokens that part where the logits are next to equal were a tie.

    Args:
        got, want: tokens `[T]` and logits `[T, V]`.
    """
    steps = min(len(got[0]), len(want[0]))
    apart = (got[0][:steps] != want[0][:steps]).nonzero().flatten().tolist()
    steps = apart[0] + 1 if apart else steps
    ours, theirs = got[1][:steps], want[1][:steps]
    distance = (ours - theirs).abs().masked_fill(ours == theirs, 0).amax(dim=-1)
    spread = theirs.amax(dim=-1) - theirs.median(dim=-1).values
    share = (distance / spread.clamp_min(torch.finfo(spread.dtype).tiny)).max()
    return float("inf") if bool(share.isnan()) else float(share)


def of_row(run: GenerationCapture, row: int) -> tuple[Tensor, Tensor]:
    """The tokens `[T]` and logits `[T, V]` of one row."""
    return run.tokens[row], run.logits[row]


def near(trial: CheckRun, worst: float, stock: Callable[[], float], note: str = "") -> CheckResult:
    """A difference that rounding may make: judged beside those that the stock model shows by itself.

    These are what `stock` gives, and how far its batches are from their singles: a single figure can be small by luck.
    In fp32 the stock model is asked only where the difference is above what is allowed anyway.
    """
    floor = 1e-4 if trial.exact else 2 * float(torch.finfo(trial.model.dtype).eps)
    if trial.exact and worst <= floor:
        return CheckResult(worst, floor, SPREAD, note=note)
    own = max(stock(), *(_stock_drift(trial, case) for case in trial.bench.cases))
    return CheckResult(worst, max(floor, TIMES * own), SPREAD, own, note)


def unequal(got: Tensor, want: Tensor) -> CheckResult:
    """Bit for bit."""
    return CheckResult(0.0 if torch.equal(got, want) else max(float((got - want).abs().max()), 1e-45), unit="apart")


def _stock_drift(trial: CheckRun, case: CheckPrompt) -> float:
    """How far the stock model's batch is from its singles; 0 for a prompt of one row."""
    run, singles = trial.bench.stock(case), trial.bench.stock_rows(case)
    return max((drift(of_row(run, r), of_row(single, 0)) for r, single in enumerate(singles)), default=0.0)


def meet(trial: CheckRun, pairs: Sequence[tuple[GenerationCapture, int, GenerationCapture, int]]) -> CheckResult:
    """How far rows are apart that should be answered alike: two runs, and a row in each.

    They must keep the same tokens. In half precision the encoder's own rounding depends on the batch and may change a
    choice: then the choice made from the batch's features must not depend on the batch.
    """
    unlike = [(a, i, b, j) for a, i, b, j in pairs if a.kept(i) != b.kept(j)]
    moved = sum(len(set(x) ^ set(y)) for a, i, b, j in unlike for x, y in zip(a.kept(i), b.kept(j), strict=True))
    if unlike and (trial.exact or not _selected_alone(trial)):
        return CheckResult(max(moved, 1), unit="tokens kept otherwise")
    alike = [(a, i, b, j) for a, i, b, j in pairs if a.kept(i) == b.kept(j)]
    note = f"in {len(unlike)} rows the encoder's rounding changed {moved} kept places; only the other rows compare"
    worst = max((drift(of_row(a, i), of_row(b, j)) for a, i, b, j in alike), default=0.0)
    return near(trial, worst, lambda: _stock_drift(trial, trial.case), note if unlike else "")


def encoded(trial: CheckRun) -> list[tuple[VisualTokens, int]]:
    """The visual tokens of each item as the recipe sees them, and how many of them it keeps."""
    recipe, adapter = trial.recipe, trial.adapter
    media = adapter.media(trial.case.inputs)
    small = []
    for item in media:
        grids = recipe.encoded_grids(item.layout)
        small.append(item if grids == item.layout.grids else adapter.resized(item, *grids[0][1:]))
    with reduced(trial.model, recipe), torch.no_grad():
        encoded = adapter.encode(small, encoder_cues(recipe))
    embed, found = trial.model.get_input_embeddings(), []
    for item, place, tokens in zip(media, trial.placed, encoded, strict=True):
        cues = dict(tokens.cues)
        if QUESTION in recipe.cues:
            cues[QUESTION] = embed(trial.lines[place.row][trial.text(place.row)]).detach()
        key = item.key if recipe.seeded else tokens.key
        total = min(recipe.count(item.layout), sum(tokens.layout.candidates))
        found.append((replace(tokens, cues=cues, key=key), total))
    return found


def _selected_alone(trial: CheckRun) -> bool:
    """Whether each item's features, taken from the batch, give the same kept tokens by themselves."""
    if trial.recipe.input is not None:
        return False
    items = zip(encoded(trial), trial.report.items, strict=True)
    return all(
        torch.equal(trial.recipe.reduce(tokens, total).anchor.cpu(), item.reduction.anchor)
        for (tokens, total), item in items
    )
