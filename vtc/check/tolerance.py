"""Check results, and how differences of logits are measured and judged."""

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
    """Outcome of one check in one run.

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
    """Return the difference of one row's logits up to the first differing token, as a share of each step's spread.

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


def within_noise(check_run: CheckRun, worst: float, stock: Callable[[], float], note: str = "") -> CheckResult:
    """Compare a difference with the stock model's own batch-against-single noise.

    These are what `stock` gives, and how far its batches are from their singles: a single figure can be small by luck.
    In fp32 the stock model is asked only where the difference is above what is allowed anyway.
    """
    floor = 1e-4 if check_run.exact else 2 * float(torch.finfo(check_run.model.dtype).eps)
    if check_run.exact and worst <= floor:
        return CheckResult(worst, floor, SPREAD, note=note)
    own = max(stock(), *(_stock_drift(check_run, case) for case in check_run.context.cases))
    return CheckResult(worst, max(floor, TIMES * own), SPREAD, own, note)


def unequal(got: Tensor, want: Tensor) -> CheckResult:
    """Compare bit for bit."""
    return CheckResult(0.0 if torch.equal(got, want) else max(float((got - want).abs().max()), 1e-45), unit="apart")


def _stock_drift(check_run: CheckRun, case: CheckPrompt) -> float:
    """Return the drift between the stock model's batch and its singles; 0 for a prompt of one row."""
    run, singles = check_run.context.stock(case), check_run.context.stock_rows(case)
    return max((drift(of_row(run, r), of_row(single, 0)) for r, single in enumerate(singles)), default=0.0)


def same_rows(
    check_run: CheckRun, pairs: Sequence[tuple[GenerationCapture, int, GenerationCapture, int]]
) -> CheckResult:
    """Compare rows that should be answered alike: pairs of a run and a row in it.

    They must keep the same tokens. In half precision the encoder's own rounding depends on the batch and may change a
    choice: then the choice made from the batch's features must not depend on the batch.
    """
    unlike = [(a, i, b, j) for a, i, b, j in pairs if a.kept(i) != b.kept(j)]
    moved = sum(len(set(x) ^ set(y)) for a, i, b, j in unlike for x, y in zip(a.kept(i), b.kept(j), strict=True))
    if unlike and (check_run.exact or not _selected_alone(check_run)):
        return CheckResult(max(moved, 1), unit="tokens kept otherwise")
    alike = [(a, i, b, j) for a, i, b, j in pairs if a.kept(i) == b.kept(j)]
    note = f"in {len(unlike)} rows the encoder's rounding changed {moved} kept places; only the other rows compare"
    worst = max((drift(of_row(a, i), of_row(b, j)) for a, i, b, j in alike), default=0.0)
    return within_noise(check_run, worst, lambda: _stock_drift(check_run, check_run.case), note if unlike else "")


def encoded(check_run: CheckRun) -> list[tuple[VisualTokens, int]]:
    """Return the visual tokens of each item as the recipe gets them, each with its count of kept tokens."""
    recipe, adapter = check_run.recipe, check_run.adapter
    media = adapter.media(check_run.case.inputs)
    small = []
    for item in media:
        grids = recipe.encoded_grids(item.layout)
        small.append(item if grids == item.layout.grids else adapter.resized(item, *grids[0][1:]))
    with reduced(check_run.model, recipe), torch.no_grad():
        encoded = adapter.encode(small, encoder_cues(recipe))
    embed, found = check_run.model.get_input_embeddings(), []
    for item, place, tokens in zip(media, check_run.placed, encoded, strict=True):
        cues = dict(tokens.cues)
        if QUESTION in recipe.cues:
            cues[QUESTION] = embed(check_run.lines[place.row][check_run.text(place.row)]).detach()
        key = item.key if recipe.seeded else tokens.key
        total = min(recipe.count(item.layout), sum(tokens.layout.candidates))
        found.append((replace(tokens, cues=cues, key=key), total))
    return found


def _selected_alone(check_run: CheckRun) -> bool:
    """Return whether each item's features, taken from the batch, give the same kept tokens by themselves."""
    if check_run.recipe.input is not None:
        return False
    items = zip(encoded(check_run), check_run.report.items, strict=True)
    return all(
        torch.equal(check_run.recipe.reduce(tokens, total).anchor.cpu(), item.reduction.anchor)
        for (tokens, total), item in items
    )
