"""The grid's invariants on somebody's own checkpoint: every check on every recipe and prompt, and what holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers

from vtc.adapters import find
from vtc.core.budget import Keep
from vtc.recipes.composition import POSITIONS, Recipe
from vtc.recipes.named import recipe
from vtc.reduction.wrapped_model import WrappedModel

from .capture import footprint, generate
from .context import CheckContext, CheckPrompt, CheckRun
from .invariants import CHECKS, Check
from .tolerance import CheckResult

SPREAD = ("kcenter", "kcenter-mean", "stride", "cls", "resize", "globalcom2", "layerwise", "kcenter+feather")
"""The recipes that a model is checked with by default, as far as it can run them."""


@dataclass(frozen=True)
class InvariantResult:
    """One invariant over all runs.

    Attributes:
        name: what it says.
        holds: None if it could not be looked at.
        runs: in how many it was checked.
        worst: the result that came nearest to failing, or failed most; None if an exception was all there was.
        where: the run of `worst`.
        failures: a line for each run that failed.
    """

    name: str
    holds: bool | None
    runs: int
    worst: CheckResult | None
    where: str
    failures: tuple[str, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """Name, runs, worst figure, the stock model's own, what is allowed, and whether it holds, for a person."""
        word = "not possible" if self.holds is None else "yes" if self.holds else "NO"
        if self.worst is None:
            return (self.name, str(self.runs), "", "", "", word)
        figures = (self.worst.worst, self.worst.stock, self.worst.allowed)
        return (self.name, str(self.runs), *("" if value is None else _number(value) for value in figures), word)


@dataclass(frozen=True)
class ModelResult:
    """Check results of a model.

    Attributes:
        model, adapter: their classes.
        versions: of transformers and torch.
        device, dtype: of the model.
        recipes, cases: the names of what was tried.
        notes: what could not be tried, and why.
        rows: one per invariant.
        seconds: it took.
    """

    model: str
    adapter: str
    versions: dict[str, str]
    device: str
    dtype: str
    recipes: tuple[str, ...]
    cases: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[InvariantResult, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether no invariant failed, and there was something to look at."""
        return all(row.holds is not False for row in self.rows) and any(row.holds for row in self.rows)

    @property
    def summary(self) -> str:
        """One line: how many hold, and which do not."""
        seen = [row for row in self.rows if row.holds is not None]
        failing = [row.name for row in seen if not row.holds]
        text = f"{len(seen) - len(failing)} of {len(seen)} hold"
        text += f"; these fail: {', '.join(failing)}" if failing else ""
        blind = [row.name for row in self.rows if row.holds is None]
        return text + (f"; not possible here: {', '.join(blind)}" if blind else "")


def asked(positions: str) -> tuple[str, ...]:
    """The kinds of positions that `positions` names: one of them, or `both`.

    Raises:
        ValueError: none of these.
    """
    if positions not in (*POSITIONS, "both"):
        raise ValueError(f"positions={positions!r}; expected one of {', '.join(POSITIONS)}, both")
    return POSITIONS if positions == "both" else (positions,)


def recipes(names: Sequence[str] | None = None, keep: Keep | None = None, positions: str = "both") -> list[Recipe]:
    """The recipes of these names (by default `SPREAD`), for each kind of positions asked.

    Where there are only decoder stages nothing leaves before the language model: both kinds of positions are then one,
    and those of `SPREAD` follow their own schedule whatever `keep` is.

    Raises:
        ValueError: an unknown name or kind of positions, or a `keep` that drops nothing or is out of range.
    """
    found = []
    for name in names or SPREAD:
        inside = recipe(name).only_decoder
        share = None if inside and not names else keep
        found += [recipe(name, keep=share, positions=mode) for mode in asked(positions)[: 1 if inside else None]]
    for one in found:
        if isinstance(one.keep, float) and one.keep == 1.0 and not one.only_decoder:
            raise ValueError(f"keep={one.keep} keeps every token, so that nothing is checked; pass less, such as 0.25")
    return found


def runnable(model: Any, chosen: Sequence[Recipe]) -> tuple[list[Recipe], list[str]]:
    """The recipes that `model` can give all it takes for, and a note that names the others."""
    able, others = [], []
    for one in chosen:
        try:
            require(model, one)
            able.append(one)
        except ValueError:
            others.append(one.name)
    note = f"left out, since this model cannot run them: {', '.join(dict.fromkeys(others))}"
    return able, [note] if others else []


def require(model: Any, chosen: Recipe) -> None:
    """Raise ValueError, which says why, if `model` cannot run the recipe."""
    WrappedModel(model, find(model), chosen).check()


def possible(model: Any, makers: dict[str, Sequence[Callable[[], CheckPrompt]]]) -> tuple[list[CheckPrompt], list[str]]:
    """The cases that can be built and that the stock model answers, and a note on each of the others.

    Args:
        model: a stock one.
        makers: by name, ways to build a case; the first that works is taken.

    Raises:
        ValueError: none works, or the stock model's logits are not finite.
    """
    cases, notes = [], []
    for name, ways in makers.items():
        reasons = []
        for make in ways:
            try:
                case = make()
                logits = generate(model, case.inputs, 1).logits
            except Exception as error:  # processors and models raise anything at all on what they do not take
                reasons.append(_line(error))
                continue
            if bool(logits.isnan().any()):
                raise ValueError(f"the stock model answers {name!r} with NaN in {model.dtype}; load it in bfloat16")
            cases.append(case)
            break
        else:
            notes.append(f"{name}: not possible: {reasons[0]}")
    if not cases:
        raise ValueError(f"no prompt could be made for this model; {'; '.join(notes)}")
    return cases, notes


def check(
    context: CheckContext, notes: Sequence[str] = (), progress: Callable[[str], None] = lambda text: None
) -> ModelResult:
    """Check every invariant in every run. The model is left as it was.

    Args:
        context: the model, with at least one case and one recipe.
        notes: what is known not to be possible, for the result.
        progress: called with a line for each run.

    Raises:
        ValueError: nothing to try.
    """
    begun = time.perf_counter()
    runs, skipped = _tried(context)
    if not runs:
        raise ValueError(f"there is no recipe or prompt to check; {'; '.join((*notes, *skipped))}")
    for case in context.cases:  # before anything is wrapped; transformers installs hooks of its own at the first run
        context.stock(case)
    context.once("footprint", lambda: footprint(context.model))
    found: dict[str, list[tuple[str, CheckResult | str | None]]] = {one.name: [] for one in CHECKS}
    for i, planned in enumerate(runs):
        check_run = replace(planned)  # its runs go when it is done
        progress(f"{i + 1} of {len(runs)}: {check_run}")
        for one in CHECKS:
            found[one.name].append((str(check_run), _attempt(one, check_run)))
    model = context.model
    return ModelResult(
        model=type(model).__name__,
        adapter=type(find(model)).__name__,
        versions={"transformers": transformers.__version__, "torch": torch.__version__},
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        recipes=tuple(dict.fromkeys(one.name for one in context.recipes)),
        cases=tuple(case.name for case in context.cases),
        notes=(*notes, *skipped),
        rows=tuple(_summed(name, outcomes) for name, outcomes in found.items()),
        seconds=time.perf_counter() - begun,
    )


def _tried(context: CheckContext) -> tuple[list[CheckRun], list[str]]:
    """Return the runs that make sense, and a note on each of the others: an input stage cannot shrink everything."""
    able, notes = [], []
    for check_run in context.runs():
        try:
            if check_run.recipe.input is not None:
                for item in check_run.adapter.media(check_run.case.inputs):
                    check_run.recipe.count(item.layout)
            able.append(check_run)
        except ValueError as error:
            notes.append(f"{check_run}: not possible: {_line(error)}")
    return able, notes


def _attempt(one: Check, check_run: CheckRun) -> CheckResult | str | None:
    """Return the result of a check, or the message of its exception."""
    try:
        return one.find(check_run)
    except Exception as error:  # whatever breaks must neither pass nor stop the other checks
        return _line(error)


def _number(value: float) -> str:
    return f"{value:g}" if float(value).is_integer() else f"{value:.1e}"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def _summed(name: str, outcomes: Sequence[tuple[str, CheckResult | str | None]]) -> InvariantResult:
    """One invariant over all runs."""
    seen = [(where, found) for where, found in outcomes if found is not None]
    figures = [(found, where) for where, found in seen if isinstance(found, CheckResult)]
    worst, where = max(figures, key=lambda pair: _badness(pair[0]), default=(None, ""))
    failures = [f"{where}: {found}" for where, found in seen if isinstance(found, str) or not found.holds]
    return InvariantResult(name, not failures if seen else None, len(seen), worst, where, tuple(failures))


def _badness(result: CheckResult) -> tuple[bool, float]:
    return not result.holds, result.worst / result.allowed if result.allowed else result.worst
