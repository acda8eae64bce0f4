"""The invariants that `vtc check` looks at, each a function from a trial to what it found.

`CHECKS` is where one is enrolled. A check answers None where it does not apply; an exception in it is a failure.
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
    meet,
    near,
    of_row,
    unequal,
)

UNCACHED = 4
"""Steps that are decoded anew without a cache, at most."""
WORDS = 4
"""Tokens of a second turn, at most: the last ones of the prompt's text."""


@dataclass(frozen=True)
class Check:
    """An invariant: what it says, and the function that looks at it."""

    name: str
    find: Callable[[CheckRun], CheckResult | None]


def identity(trial: CheckRun) -> CheckResult | None:
    """keep=1.0 is the stock model, bit for bit."""
    recipe = keeping_all(trial.recipe)
    if recipe is None:
        return None
    run = CheckRun(trial.bench, recipe, trial.case).wrapped(trial.case.inputs)
    return max(unequal(run.logits, trial.stock.logits), unequal(run.tokens, trial.stock.tokens), key=_worst)


def _worst(finding: CheckResult) -> float:
    return finding.worst


def counts(trial: CheckRun) -> CheckResult:
    """What is declared before the encoder runs, what is reported, and what the language model is given are one."""
    report, wrong = trial.report, 0
    kept = [len(item.reduction.anchor) for item in report.items]
    if not trial.recipe.adaptive:
        with reduced(trial.model, trial.recipe):
            declared = trial.model.vtc.count(**trial.case.inputs)
        wrong += abs(len(declared) - len(kept)) + sum(abs(a - b) for a, b in zip(declared, kept, strict=False))
    wrong += sum(abs(item.after + item.structural - n) for item, n in zip(report.items, kept, strict=True))
    for r, given in enumerate(trial.run.given):
        due = int(trial.text(r).sum()) + sum(map(len, trial.run.kept(r)))
        wrong += abs(len(given.embeds) - due) + (abs(report.prompt_after[r] - due) if report.prompt_after else 0)
    return CheckResult(wrong + counted(trial), unit="tokens")


def order(trial: CheckRun) -> CheckResult:
    """Kept tokens are sorted and unique, and the item's own."""
    wrong = 0
    for item in trial.report.items:
        anchor = item.reduction.anchor
        wrong += int((anchor.diff() <= 0).sum()) + int(((anchor < 0) | (anchor >= len(item.layout))).sum())
    return CheckResult(wrong + disordered(trial), unit="tokens")


def _rows(trial: CheckRun) -> Iterable[tuple[DecoderInputs, DecoderInputs, Tensor]]:
    """Of each row: what was given, what the stock model was given, and which columns of that should go on."""
    for r, (given, full) in enumerate(zip(trial.run.given, trial.stock.given, strict=True)):
        columns = trial.columns(r)
        if len(given.embeds) != len(columns):
            raise ValueError(f"row {r}: the language model was given {len(given.embeds)} tokens, not {len(columns)}")
        yield given, full, columns


def text(trial: CheckRun) -> CheckResult:
    """Embeddings of text are what the stock model gives, bit for bit."""
    wrong = 0
    for r, (given, full, columns) in enumerate(_rows(trial)):
        own = trial.text(r)[columns]
        wrong += int((given.embeds[own] != full.embeds[columns][own]).any(dim=-1).sum())
    return CheckResult(wrong, unit="text tokens")


def positions(trial: CheckRun) -> CheckResult:
    """Kept tokens stand where the full prompt put them (`original`), or count up without gaps (`compact`)."""
    wrong = 0
    for given, full, columns in _rows(trial):
        if trial.recipe.positions == "original":
            wrong += int((given.places != full.places[:, columns]).any(dim=0).sum())
            continue
        # With M-RoPE height and width count up together; a video's time may run in steps of more than one.
        axes = slice(None) if len(given.places) == 1 else slice(1, None)
        start, found = int(full.places[axes].min()), given.places[axes].unique()
        wrong += int((found != start + torch.arange(len(found), device=found.device)).sum())
        wrong += int((given.places.diff() != 1).sum()) if len(given.places) == 1 else 0
    return CheckResult(wrong, unit="tokens")


def marks(trial: CheckRun) -> CheckResult:
    """What the language model reads by token besides embeddings, if anything, is that of the kept tokens."""
    wrong = 0
    for r, (given, full) in enumerate(zip(trial.run.given, trial.stock.given, strict=True)):
        if not full.marks:
            continue
        columns = trial.columns(r)
        for name, own in full.marks.items():
            got = given.marks.get(name)
            whole = got is not None and len(got) == len(columns) and len(own) == len(full.embeds)
            wrong += int((got != own[columns]).sum()) if got is not None and whole else len(columns)
    return CheckResult(wrong, unit="tokens")


def refused(trial: CheckRun) -> CheckResult:
    """A `forward` that lacks what the stock model must have is refused, as by the stock model."""
    inputs, wrong = trial.case.inputs, 0
    for name in (name for name in trial.adapter.token_arguments if name in inputs):
        less = {key: value for key, value in inputs.items() if key != name}
        if trial.bench.once((trial.case.name, "less", name), partial(_refuses, trial.model, less)):
            with reduced(trial.model, trial.recipe):
                wrong += not _refuses(trial.model, less)
    return CheckResult(wrong, unit="arguments")


@torch.no_grad()
def _refuses(model: Any, inputs: Mapping[str, Any]) -> bool:
    try:
        model(**inputs, logits_to_keep=1)
    except ValueError:
        return True
    return False


def batch(trial: CheckRun) -> CheckResult | None:
    """A batch is answered as its rows are alone."""
    if not trial.case.rows:
        return None
    pairs = [(trial.run, r, alone, 0) for r, alone in enumerate(trial.alone)]
    return alike(trial, pairs, partial(meet, trial))


def permuted(trial: CheckRun) -> CheckResult | None:
    """Permuting the batch permutes the answer."""
    if trial.case.permuted is None:
        return None
    run = trial.wrapped(trial.case.permuted)
    pairs = [(run, i, trial.run, r) for i, r in enumerate(trial.case.order)]
    return alike(trial, pairs, partial(meet, trial))


class _Heard:
    """A streamer that keeps the tokens."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def put(self, value: Tensor) -> None:
        """Called by `generate`, with the prompt first and then each token."""
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        """Called by `generate` when it is done."""


def streamed(trial: CheckRun) -> CheckResult | None:
    """Greedy decoding, one beam, and a stream give the same tokens."""
    if len(trial.lines) > 1:  # streamers take one row
        return None
    heard = _Heard()
    run = trial.wrapped(trial.case.inputs, num_beams=1, streamer=heard)
    wrong = int((run.tokens != trial.run.tokens).sum())
    wrong += sum(a != b for a, b in zip(heard.tokens[-run.tokens.shape[1] :], run.tokens[0].tolist(), strict=True))
    return CheckResult(wrong, unit="tokens")


def uncached(trial: CheckRun) -> CheckResult:
    """Prefill and cache give what recomputing without a cache does."""
    options: dict[str, Any] = {"use_cache": False, "max_new_tokens": min(UNCACHED, trial.bench.tokens)}

    def furthest(pairs: Sequence[Pair]) -> float:
        return max((drift(of_row(a, i), of_row(b, j)) for a, i, b, j in pairs), default=0.0)

    def beside(one: GenerationCapture, other: GenerationCapture) -> list[Pair]:
        return [(one, r, other, r) for r in range(len(one.tokens))]

    def judged(pairs: Sequence[Pair]) -> CheckResult:
        stock = lambda: furthest(beside(trial.bench.stock(trial.case, **options), trial.stock))  # noqa: E731
        return near(trial, furthest(pairs), stock)

    return alike(trial, beside(trial.wrapped(trial.case.inputs, **options), trial.run), judged)


def by_hand(trial: CheckRun) -> CheckResult | None:
    """Prefill is that of a prompt shortened by hand from the stock model's own embeddings and positions.

    What left inside the language model is masked there.
    """
    if len(trial.lines) > 1 or trial.recipe.input is not None:
        return None
    ((given, full, columns),) = _rows(trial)
    ids = full.ids[:, columns] if trial.recipe.positions == "original" else given.ids
    with masked(trial.model, leaving(trial, trial.run)):
        got = prefill(trial, shortened(trial, full, columns, ids), columns)
    worst = drift((trial.run.tokens[0, :1], trial.run.logits[0, :1]), (got.argmax(dim=-1), got))

    def stock() -> float:
        again = prefill(trial, full, torch.arange(len(full.embeds), device=columns.device))
        return drift((again.argmax(dim=-1), again), (trial.stock.tokens[0, :1], trial.stock.logits[0, :1]))

    return near(trial, worst, stock)


def turns(trial: CheckRun) -> CheckResult | None:
    """Two turns are answered as by the stock model over all of them at once: no cache, what left is masked."""
    if len(trial.lines) > 1:
        return None
    words = trial.lines[0][trial.text(0)][-WORDS:][None]
    with reduced(trial.model, trial.recipe):
        first, second = two_turns(trial.model, trial.case.inputs, words, trial.bench.tokens)
    said, columns = torch.cat([first.tokens, words.cpu(), second.tokens], dim=1)[0], trial.columns(0)
    with masked(trial.model, leaving(trial, first)):
        got = prefill(trial, first.given[0], columns, said[:-1])
    steps = len(first.tokens[0])
    again = got[steps + words.shape[1] :]
    pairs = ((of_row(first, 0), got[:steps]), (of_row(second, 0), again))
    worst = max(drift((tokens, logits), (tokens, slow)) for (tokens, logits), slow in pairs)

    def stock() -> float:
        run = trial.stock
        slow = prefill(
            trial, run.given[0], torch.arange(len(trial.lines[0]), device=columns.device), run.tokens[0, :-1]
        )
        return drift(of_row(run, 0), (run.tokens[0], slow))

    return near(trial, worst, stock)


def undone(trial: CheckRun) -> CheckResult:
    """After wrapping and restore there are the same attributes and hooks, and the stock logits bit for bit."""
    bare = trial.bench.once("footprint", lambda: footprint(trial.model))
    _ = trial.run
    found = footprint(trial.model)
    changed = [name or type(trial.model).__name__ for name in found if found[name] != bare.get(name)]
    if changed:
        return CheckResult(len(changed), unit="modules", note=f"attributes or hooks were left on {changed[0]}")
    again = generate(trial.model, trial.case.inputs, 1)
    return unequal(again.logits, trial.stock.logits[:, :1])


def saved(trial: CheckRun) -> CheckResult:
    """A recipe that was saved and loaded keeps the same tokens."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.json"
        trial.recipe.save(path)
        again = CheckRun(trial.bench, Recipe.load(path), trial.case).wrapped(trial.case.inputs, 1)
    rows = range(len(trial.lines))
    pairs = [(x, y) for r in rows for x, y in zip(again.kept(r), trial.run.kept(r), strict=True)]
    inside = [(x, y) for r in rows for (_, x), (_, y) in zip(again.inside(r), trial.run.inside(r), strict=True)]
    return CheckResult(sum(len(set(x) ^ set(y)) for x, y in (*pairs, *inside)), unit="tokens")


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    """`values` rounded to what bf16 and fp16 can both hold, as `dtype`."""
    if not values.is_floating_point():
        return values
    return values.float().clamp(-6e4, 6e4).bfloat16().half().bfloat16().to(dtype)


def precisions(trial: CheckRun) -> CheckResult | None:
    """The same features, given as fp32, bf16 or fp16, are selected alike."""
    if len(trial.lines) > 1 or trial.recipe.only_decoder:
        return None
    wrong = 0
    for tokens, total in encoded(trial):
        kept = []
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            cues = {name: _cast(value, dtype) for name, value in tokens.cues.items()}
            given = replace(tokens, features=_cast(tokens.features, dtype), cues=cues)
            kept.append(set(trial.recipe.reduce(given, total).anchor.tolist()))
        wrong += len(kept[0] ^ kept[1]) + len(kept[0] ^ kept[2])
    return CheckResult(wrong, unit="tokens")


def arithmetic(trial: CheckRun) -> CheckResult:
    """The report counts the prompt as it was, and its FLOPs and bytes are positive where tokens were dropped."""
    report, full = trial.report, [len(line) for line in trial.lines]
    fewer = report.after < report.before
    right = (
        list(report.prompt_before) == full,
        report.before == sum(int((~trial.text(r)).sum()) for r in range(len(full))),
        0 < report.prefill_flops_after <= report.prefill_flops_before,
        (report.prefill_flops_after < report.prefill_flops_before) == fewer,
        (report.kv_bytes_saved > 0) == fewer and report.kv_bytes_saved >= 0,
        *sums(trial),
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
    Check("prefill = prompt shortened by hand", by_hand),
    Check("two turns = a slow run with no cache", turns),
    Check("restore leaves nothing behind", undone),
    Check("a saved recipe keeps the same tokens", saved),
    Check("fp32, bf16, fp16 are selected alike", precisions),
    Check("the report's FLOPs and bytes add up", arithmetic),
)
