"""The invariants that `vtc check` looks at, each a function from a run to its result.

`CHECKS` is where one is registered. A check answers None where it does not apply; an exception in it is a failure.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtc.core.token_recorder import TokenRecorder
from vtc.recipes.composition import Recipe
from vtc.reduction.api import reduced

from .capture import (
    DecoderInputs,
    GenerationCapture,
    footprint,
    generate,
    two_turns,
)
from .context import CheckRun
from .decoder_invariants import (
    Pair,
    alike,
    counted,
    disordered,
    keeping_all,
    sums,
)
from .masked_reference import leaving, masked
from .reference_forward import prefill, shortened
from .tolerance import (
    CheckResult,
    drift,
    encoded,
    of_row,
    same_rows,
    unequal,
    within_noise,
)

UNCACHED = 4
"""Steps that are decoded again without a cache, at most."""
WORDS = 4
"""Tokens of a second turn, at most: the last ones of the prompt's text."""


@dataclass(frozen=True)
class Check:
    """An invariant: what it says, and the function that looks at it."""

    name: str
    find: Callable[[CheckRun], CheckResult | None]


def identity(check_run: CheckRun) -> CheckResult | None:
    """keep=1.0 is the stock model, bit for bit."""
    recipe = keeping_all(check_run.recipe)
    if recipe is None:
        return None
    run = CheckRun(check_run.context, recipe, check_run.case).wrapped(check_run.case.inputs)
    return max(unequal(run.logits, check_run.stock.logits), unequal(run.tokens, check_run.stock.tokens), key=_worst)


def _worst(result: CheckResult) -> float:
    return result.worst


def counts(check_run: CheckRun) -> CheckResult:
    """Token counts declared before the encoder runs, reported, and given to the language model agree."""
    report, wrong = check_run.report, 0
    kept = [len(item.reduction.anchor) for item in report.items]
    if not check_run.recipe.adaptive:
        with reduced(check_run.model, check_run.recipe):
            declared = check_run.model.vtc.count(**check_run.case.inputs)
        wrong += abs(len(declared) - len(kept)) + sum(abs(a - b) for a, b in zip(declared, kept, strict=False))
    wrong += sum(abs(item.after + item.structural - n) for item, n in zip(report.items, kept, strict=True))
    for r, row_inputs in enumerate(check_run.run.decoder_inputs):
        due = int(check_run.text(r).sum()) + sum(map(len, check_run.run.kept(r)))
        wrong += abs(len(row_inputs.embeds) - due) + (abs(report.prompt_after[r] - due) if report.prompt_after else 0)
    return CheckResult(wrong + counted(check_run), unit="tokens")


def order(check_run: CheckRun) -> CheckResult:
    """Kept tokens are sorted and unique, and the item's own."""
    wrong = 0
    for item in check_run.report.items:
        anchor = item.reduction.anchor
        wrong += int((anchor.diff() <= 0).sum()) + int(((anchor < 0) | (anchor >= len(item.layout))).sum())
    return CheckResult(wrong + disordered(check_run), unit="tokens")


def _rows(check_run: CheckRun) -> Iterable[tuple[DecoderInputs, DecoderInputs, Tensor]]:
    """Yield, by row, decoder inputs, those of the stock model, and the columns of these that should remain."""
    for r, (row_inputs, full) in enumerate(
        zip(check_run.run.decoder_inputs, check_run.stock.decoder_inputs, strict=True)
    ):
        columns = check_run.columns(r)
        if len(row_inputs.embeds) != len(columns):
            raise ValueError(
                f"row {r}: the language model was given {len(row_inputs.embeds)} tokens, not {len(columns)}"
            )
        yield row_inputs, full, columns


def text(check_run: CheckRun) -> CheckResult:
    """Embeddings of text are what the stock model gives, bit for bit."""
    wrong = 0
    for r, (row_inputs, full, columns) in enumerate(_rows(check_run)):
        own = check_run.text(r)[columns]
        wrong += int((row_inputs.embeds[own] != full.embeds[columns][own]).any(dim=-1).sum())
    return CheckResult(wrong, unit="text tokens")


def positions(check_run: CheckRun) -> CheckResult:
    """Kept tokens stand where the full prompt put them (`original`), or count up without gaps (`compact`)."""
    wrong = 0
    for row_inputs, full, columns in _rows(check_run):
        if check_run.recipe.positions == "original":
            wrong += int((row_inputs.places != full.places[:, columns]).any(dim=0).sum())
            continue
        # With M-RoPE height and width count up together; a video's time may run in steps of more than one, and where
        # text goes on after it (Qwen-Omni) height and width leap as well.
        axes = slice(None) if len(row_inputs.places) == 1 else slice(1, None)
        stock, found = full.places[axes].unique(), row_inputs.places[axes].unique()
        wrong += int(found[0] != stock[0]) + max(0, int((found.diff() != 1).sum()) - int((stock.diff() != 1).sum()))
        wrong += int((row_inputs.places.diff() != 1).sum()) if len(row_inputs.places) == 1 else 0
    return CheckResult(wrong, unit="tokens")


def marks(check_run: CheckRun) -> CheckResult | None:
    """Check that further inputs by token are those of the kept tokens."""
    wrong = compared = 0
    for r, (row_inputs, full) in enumerate(
        zip(check_run.run.decoder_inputs, check_run.stock.decoder_inputs, strict=True)
    ):
        if not full.marks:
            continue
        columns = check_run.columns(r)
        for name, own in full.marks.items():
            got = row_inputs.marks.get(name)
            whole = got is not None and len(got) == len(columns) and len(own) == len(full.embeds)
            wrong += int((got != own[columns]).sum()) if got is not None and whole else len(columns)
            compared += 1
    return CheckResult(wrong, unit="tokens") if compared else None


def refused(check_run: CheckRun) -> CheckResult | None:
    """A `forward` that lacks what the stock model must have is refused, as by the stock model."""
    inputs, wrong, compared = check_run.case.inputs, 0, 0
    for name in (name for name in check_run.adapter.token_arguments if name in inputs):
        less = {key: value for key, value in inputs.items() if key != name}
        if check_run.context.once((check_run.case.name, "less", name), partial(_refuses, check_run.model, less)):
            with reduced(check_run.model, check_run.recipe):
                wrong += not _refuses(check_run.model, less)
            compared += 1
    return CheckResult(wrong, unit="arguments") if compared else None


@torch.no_grad()
def _refuses(model: Any, inputs: Mapping[str, Any]) -> bool:
    try:
        model(**inputs, logits_to_keep=1)
    except ValueError:
        return True
    return False


def batch(check_run: CheckRun) -> CheckResult | None:
    """A batch is answered as its rows are alone."""
    if not check_run.case.rows:
        return None
    pairs = [(check_run.run, r, alone, 0) for r, alone in enumerate(check_run.alone)]
    return alike(check_run, pairs, partial(same_rows, check_run))


def permuted(check_run: CheckRun) -> CheckResult | None:
    """Permuting the batch permutes the answer."""
    if check_run.case.permuted is None:
        return None
    run = check_run.wrapped(check_run.case.permuted)
    pairs = [(run, i, check_run.run, r) for i, r in enumerate(check_run.case.order)]
    return alike(check_run, pairs, partial(same_rows, check_run))


def streamed(check_run: CheckRun) -> CheckResult | None:
    """Greedy decoding, one beam, and a stream give the same tokens."""
    if len(check_run.lines) > 1:  # streamers take one row
        return None
    recorder = TokenRecorder()
    run = check_run.wrapped(check_run.case.inputs, num_beams=1, streamer=recorder)
    wrong = int((run.tokens != check_run.run.tokens).sum())
    wrong += sum(a != b for a, b in zip(recorder.tokens, run.tokens[0].tolist(), strict=True))
    return CheckResult(wrong, unit="tokens")


def uncached(check_run: CheckRun) -> CheckResult:
    """Prefill and cache give what recomputing without a cache does."""
    options: dict[str, Any] = {"use_cache": False, "max_new_tokens": min(UNCACHED, check_run.context.tokens)}

    def furthest(pairs: Sequence[Pair]) -> float:
        return max((drift(of_row(a, i), of_row(b, j)) for a, i, b, j in pairs), default=0.0)

    def beside(one: GenerationCapture, other: GenerationCapture) -> list[Pair]:
        return [(one, r, other, r) for r in range(len(one.tokens))]

    def judged(pairs: Sequence[Pair]) -> CheckResult:
        stock = lambda: furthest(beside(check_run.context.stock(check_run.case, **options), check_run.stock))  # noqa: E731
        return within_noise(check_run, furthest(pairs), stock)

    return alike(check_run, beside(check_run.wrapped(check_run.case.inputs, **options), check_run.run), judged)


def equals_reference_forward(check_run: CheckRun) -> CheckResult | None:
    """Prefill is that of a prompt shortened by hand from the stock model's own embeddings and positions.

    What left inside the language model is masked there.
    """
    if len(check_run.lines) > 1 or check_run.recipe.input is not None:
        return None
    ((row_inputs, full, columns),) = _rows(check_run)
    ids = full.ids[:, columns] if check_run.recipe.positions == "original" else row_inputs.ids
    with masked(check_run.model, leaving(check_run, check_run.run)):
        got = prefill(check_run, shortened(check_run, full, columns, ids), columns)
    worst = drift((check_run.run.tokens[0, :1], check_run.run.logits[0, :1]), (got.argmax(dim=-1), got))

    def stock() -> float:
        again = prefill(check_run, full, torch.arange(len(full.embeds), device=columns.device))
        return drift((again.argmax(dim=-1), again), (check_run.stock.tokens[0, :1], check_run.stock.logits[0, :1]))

    return within_noise(check_run, worst, stock)


def turns(check_run: CheckRun) -> CheckResult | None:
    """Two turns are answered as by the stock model over all of them at once: no cache, what left is masked."""
    if len(check_run.lines) > 1:
        return None
    words = check_run.lines[0][check_run.text(0)][-WORDS:][None]
    with reduced(check_run.model, check_run.recipe):
        first, second = two_turns(check_run.model, check_run.case.inputs, words, check_run.context.tokens)
    conversation, columns = torch.cat([first.tokens, words.cpu(), second.tokens], dim=1)[0], check_run.columns(0)
    with masked(check_run.model, leaving(check_run, first)):
        got = prefill(check_run, first.decoder_inputs[0], columns, conversation[:-1])
    steps = len(first.tokens[0])
    again = got[steps + words.shape[1] :]
    pairs = ((of_row(first, 0), got[:steps]), (of_row(second, 0), again))
    worst = max(drift((tokens, logits), (tokens, slow)) for (tokens, logits), slow in pairs)

    def stock() -> float:
        run = check_run.stock
        slow = prefill(
            check_run,
            run.decoder_inputs[0],
            torch.arange(len(check_run.lines[0]), device=columns.device),
            run.tokens[0, :-1],
        )
        return drift(of_row(run, 0), (run.tokens[0], slow))

    return within_noise(check_run, worst, stock)


def undone(check_run: CheckRun) -> CheckResult:
    """After wrapping and restore there are the same attributes and hooks, and the stock logits bit for bit."""
    bare = check_run.context.once("footprint", lambda: footprint(check_run.model))
    _ = check_run.run
    found = footprint(check_run.model)
    changed = [name or type(check_run.model).__name__ for name in found if found[name] != bare.get(name)]
    if changed:
        return CheckResult(len(changed), unit="modules", note=f"attributes or hooks were left on {changed[0]}")
    again = generate(check_run.model, check_run.case.inputs, 1)
    return unequal(again.logits, check_run.stock.logits[:, :1])


def saved(check_run: CheckRun) -> CheckResult:
    """A recipe that was saved and loaded keeps the same tokens."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.json"
        check_run.recipe.save(path)
        again = CheckRun(check_run.context, Recipe.load(path), check_run.case).wrapped(check_run.case.inputs, 1)
    rows = range(len(check_run.lines))
    pairs = [(x, y) for r in rows for x, y in zip(again.kept(r), check_run.run.kept(r), strict=True)]
    inside = [(x, y) for r in rows for (_, x), (_, y) in zip(again.inside(r), check_run.run.inside(r), strict=True)]
    return CheckResult(sum(len(set(x) ^ set(y)) for x, y in (*pairs, *inside)), unit="tokens")


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    """`values` rounded to what bf16 and fp16 can both hold, as `dtype`."""
    if not values.is_floating_point():
        return values
    return values.float().clamp(-6e4, 6e4).bfloat16().half().bfloat16().to(dtype)


def precisions(check_run: CheckRun) -> CheckResult | None:
    """The same features, given as fp32, bf16 or fp16, are selected alike."""
    if len(check_run.lines) > 1 or check_run.recipe.only_decoder:
        return None
    wrong = 0
    for tokens, total in encoded(check_run):
        kept = []
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            cues = {name: _cast(value, dtype) for name, value in tokens.cues.items()}
            row_inputs = replace(tokens, features=_cast(tokens.features, dtype), cues=cues)
            kept.append(set(check_run.recipe.reduce(row_inputs, total).anchor.tolist()))
        wrong += len(kept[0] ^ kept[1]) + len(kept[0] ^ kept[2])
    return CheckResult(wrong, unit="tokens")


def arithmetic(check_run: CheckRun) -> CheckResult:
    """The report counts the prompt as it was, and its FLOPs and bytes are positive where tokens were dropped."""
    report, full = check_run.report, [len(line) for line in check_run.lines]
    fewer = report.after < report.before
    right = (
        list(report.prompt_before) == full,
        report.before == sum(int((~check_run.text(r)).sum()) for r in range(len(full))),
        0 < report.prefill_flops_after <= report.prefill_flops_before,
        (report.prefill_flops_after < report.prefill_flops_before) == fewer,
        (report.kv_bytes_saved > 0) == fewer and report.kv_bytes_saved >= 0,
        *sums(check_run),
    )
    return CheckResult(right.count(False), unit="sums")


CHECKS = (
    Check("keep=1.0 is the stock model bit for bit", identity),
    Check("counts declared, reported, given agree", counts),
    Check("kept tokens are sorted and unique", order),
    Check("embeddings of text are untouched", text),
    Check("positions: unreduced, or consecutive", positions),
    Check("marks by token are the kept ones'", marks),
    Check("what the stock model refuses is refused", refused),
    Check("a batch equals its singles", batch),
    Check("permuting the batch permutes answers", permuted),
    Check("greedy = one beam = streamed", streamed),
    Check("cache = recomputing without one", uncached),
    Check("prefill = prompt shortened by hand", equals_reference_forward),
    Check("two turns = a slow run with no cache", turns),
    Check("restore leaves nothing behind", undone),
    Check("a saved recipe keeps the same tokens", saved),
    Check("fp32, bf16, fp16 are selected alike", precisions),
    Check("the report's FLOPs and bytes add up", arithmetic),
)
