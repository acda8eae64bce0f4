"""Invariants of decoder stages for `vtc check`: how many tokens were dropped where, and in which rows alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from vtc.recipes.composition import Recipe
from vtc.reduction.decoder.engine import planned_cuts
from vtc.reduction.decoder.report import Trace
from vtc.stages.decoder import DecoderStage

from .capture import GenerationCapture
from .context import CheckRun
from .tolerance import CheckResult

Pair = tuple[GenerationCapture, int, GenerationCapture, int]
"""Two runs, and a row in each."""


def keeping_all(recipe: Recipe) -> Recipe | None:
    """The recipe, told to keep everything; None where it cannot be told.

    Decoder stages keep 1.0 at their layers. Those that always withdraw, or choose the number themselves, are left out.
    """
    own = [stage.own_share for stage in (recipe.input, recipe.encoder) if stage is not None]
    if any(share is not None for share in own):
        return None
    changed = [_keeping_all(stage) if isinstance(stage, DecoderStage) else stage for stage in recipe.stages]
    stages = tuple(stage for stage in changed if stage is not None)
    return replace(recipe, stages=stages, keep=1.0) if stages else None


def _keeping_all(stage: DecoderStage) -> DecoderStage | None:
    if stage.adaptive:
        return None
    try:
        whole: DecoderStage = replace(cast(Any, stage), schedule=tuple((layer, 1.0) for layer, _ in stage.schedule))
    except ValueError:  # a stage that withdraws everything
        return None
    return whole


def counted(check_run: CheckRun) -> int:
    """By how many tokens what is left at each layer differs from what the schedule declares, and from its width."""
    trace = check_run.report.decoder
    if trace is None:
        return 0
    planned, now, wrong = planned_cuts(check_run.recipe.decoder, trace.depth), trace.sizes, 0
    if list(planned) != list(trace.kept):
        raise ValueError(f"tokens left before layers {list(trace.kept)}; the schedule has {list(planned)}")
    for layer, entry in planned.items():
        left = tuple(map(len, trace.kept[layer]))
        due = [min(before, entry.cut.count(size)) for before, size in zip(now, trace.sizes, strict=True)]
        wrong += 0 if entry.stage.adaptive else sum(abs(a - b) for a, b in zip(left, due, strict=True))
        now = left
    return wrong + sum(abs(a - b) for a, b in zip(_widths(check_run.run, trace), check_run.run.widths, strict=True))


def _widths(run: GenerationCapture, trace: Trace) -> list[int]:
    """The columns that each layer must be given: those of the row with most tokens; with padding, while none left."""
    held = [_held(run, trace, trace.sizes)]
    for layer in range(trace.depth):
        left = trace.kept.get(layer)
        held.append(held[-1] if left is None else _held(run, trace, tuple(map(len, left))))
    return [run.widths[0] if now == held[0] else max(now) for now in held[1:]]


def _held(run: GenerationCapture, trace: Trace, left: Sequence[int]) -> list[int]:
    """Tokens of each row where `left` candidates of each item are left; structural ones leave with the last."""
    held = [len(row_inputs.embeds) for row_inputs in run.decoder_inputs]
    for row, size, fixed, count in zip(trace.rows, trace.sizes, trace.structural, left, strict=True):
        held[row] -= size - count + (fixed if size and not count else 0)
    return held


def disordered(check_run: CheckRun) -> int:
    """Return how many of the tokens that are left at each layer are not in order, or were not left before."""
    trace, wrong = check_run.report.decoder, 0
    if trace is None:
        return 0
    now = tuple(item.reduction.anchor.cpu() for item in check_run.report.items)
    for kept in trace.kept.values():
        for before, after in zip(now, kept, strict=True):
            wrong += int((after.diff() <= 0).sum()) + int((~torch.isin(after, before)).sum())
        now = kept
    return wrong


def sums(check_run: CheckRun) -> tuple[bool, ...]:
    """Return whether FLOPs and bytes of a call fall where tokens left inside the language model, and only there."""
    report = check_run.report
    if report.decoder is None:
        return ()
    fewer = min(report.decoder.layers) < report.after
    return (
        0 < report.flops_after <= report.prefill_flops_after,
        (report.flops_after < report.prefill_flops_after) == fewer,
        (report.bytes_saved > report.kv_bytes_saved) == fewer and report.bytes_saved >= report.kv_bytes_saved,
    )


def alike(check_run: CheckRun, pairs: Sequence[Pair], find: Callable[[Sequence[Pair]], CheckResult]) -> CheckResult:
    """Apply `find` to the pairs of rows in which the same tokens were dropped inside the language model.

    They must be all. In half precision rounding may change a score and with it a choice: rows in which a stage that
    reads attention chose otherwise are then set aside, and the note says how many.
    """
    same = [(a, i, b, j) for a, i, b, j in pairs if a.kept(i) != b.kept(j) or a.inside(i) == b.inside(j)]
    others = len(pairs) - len(same)
    reads = any(stage.reads is not None for stage in check_run.recipe.decoder)
    if others and (check_run.exact or not reads):
        return CheckResult(others, unit="rows of which other tokens left inside the language model")
    found = find(same)
    note = f"rounding changed what left inside the language model in {others} of {len(pairs)} rows"
    return replace(found, note="; ".join(filter(None, (found.note, note)))) if others else found
