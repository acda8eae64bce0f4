"""The questions of a benchmark whose answers were lost, with what was kept of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vtc.bench.cases import Case
from vtc.bench.config import BenchConfig
from vtc.bench.journal import BenchRow
from vtc.bench.variants import ALL_TOKENS, TEXT_ALONE, Variant
from vtc.recipes.composition import Recipe

from .benchmark_run import (
    BenchmarkRun,
    Rows,
    full_row,
    right,
)
from .overlay_renderer import OverlayRenderer, plain
from .page_model import Example, Figure


@dataclass(frozen=True)
class _Asked:
    """The questions of a run, by id, and why some of what is said of them is not.

    Attributes:
        unknown: why there are none.
        undrawn: why what was kept of their images cannot be drawn.
    """

    cases: Mapping[str, Case]
    unknown: str = ""
    undrawn: str = ""


@dataclass(frozen=True)
class _CaseOutcome:
    """Outcome of one case: the recipes' rows that lost it, that answered otherwise, and that gave errors."""

    id: str
    lost: Sequence[BenchRow]
    answered: Sequence[BenchRow]
    failed: Sequence[BenchRow]

    @property
    def rank(self) -> tuple[int, float, int]:
        """Ascending from the worst."""
        return -len(self.lost), -sum(row.kl or 0.0 for row in self.lost), -len(self.failed)

    @property
    def state(self) -> str:
        """As `page_model.WORDS` has it."""
        return "lost" if self.lost else "error" if self.failed else "kept"

    @property
    def shown(self) -> BenchRow | None:
        """The row that lost it with the most tokens, or else that kept it with the fewest."""
        if self.lost:
            return max(self.lost, key=lambda row: (row.layers, row.tokens))
        return min(self.answered, key=lambda row: (row.layers, row.tokens), default=None)


def worst(
    run: BenchmarkRun, model: Mapping[str, Any], rows: Rows, examples: int, renderer: OverlayRenderer | None
) -> list[Example]:
    """The cases that most recipes lost first, then those with errors, then the others; at most `examples`.

    Args:
        model: its part of the document.
        renderer: None: no overlays.
    """
    outcomes = sorted(_outcomes(rows, model["metric"]), key=lambda outcome: outcome.rank)[:examples]
    if not outcomes:
        return []
    asked, variants = _asked(run, model), _variants(run)
    out = []
    for outcome in outcomes:
        case, shown = asked.cases.get(outcome.id), outcome.shown
        variant = None if shown is None else variants.get(shown.variant)
        figure = partial(_figure, model["name"], case, asked, variant, renderer)
        out.append(Example(outcome.state, outcome.id, _facts(case, full_row(rows, outcome.id), outcome), figure))
    return out


def _outcomes(rows: Rows, metric: str) -> list[_CaseOutcome]:
    of_case: dict[str, list[BenchRow]] = {}
    for (variant, id), row in rows.items():
        if id:
            of_case.setdefault(id, []).extend([row] * (variant not in (ALL_TOKENS.key, TEXT_ALONE.key)))
    found = []
    for id, some in of_case.items():
        failed = [row for row in some if row.error is not None]
        known = right(full_row(rows, id), metric)
        lost = [row for row in some if known is True and right(row, metric) is False]
        answered = [row for row in some if row.error is None and right(row, metric) is not False]
        found.append(_CaseOutcome(id, lost, answered, failed))
    return found


def _facts(case: Case | None, full: BenchRow | None, outcome: _CaseOutcome) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if case is not None:
        facts.append(("question", case.question))
        if case.answer is not None:
            facts.append(("true answer", case.answer))
    if full is not None:
        facts.append(("all tokens", _answer(full)))
    if outcome.shown is not None:
        facts.append((f"{outcome.shown.name}, keep {outcome.shown.keep}", _answer(outcome.shown)))
    if outcome.lost:
        facts.append(("lost by", ", ".join(f"{row.name} at {row.keep}" for row in outcome.lost)))
    errors = dict.fromkeys(row.error for row in outcome.failed if row.error is not None)
    return [*facts, *(("error", error) for error in errors)]


def _answer(row: BenchRow) -> str:
    return f"{row.given} ({row.tokens} tokens)" if row.error is None else row.error


def _figure(
    name: str, case: Case | None, asked: _Asked, variant: Variant | None, renderer: OverlayRenderer | None
) -> Figure:
    if case is None:
        return Figure(None, asked.unknown or "the question is not among those of this version any more")
    try:
        medium = case.image()
    except (OSError, ValueError) as error:
        return Figure(None, f"the image cannot be shown: {error}")
    if renderer is None or variant is None or asked.undrawn:
        why = asked.undrawn or ("no recipe to draw" if variant is None else "overlays are not wanted")
        return Figure(plain(medium), f"kept parts are not drawn: {why}")
    return renderer.render(name, medium, case.question, variant.recipe)


def _variants(run: BenchmarkRun) -> dict[str, Variant]:
    """By key; none where a recipe is of another version."""
    config = run.document["config"]
    try:
        recipes = tuple(Recipe.from_dict(entry) for entry in config["recipes"])
        bench_config = BenchConfig(tuple(config["models"]), recipes, tuple(config["keep"]), bool(config["text_alone"]))
    except (ValueError, TypeError, KeyError):
        return {}
    return {variant.key: variant for variant in bench_config.variants}


def _asked(run: BenchmarkRun, model: Mapping[str, Any]) -> _Asked:
    """Return the cases of `model`, if questions and weights are still those of the run."""
    config, name = run.document["config"], model["name"]
    data = None if config["data"] is None else Path(config["data"])
    drawing = {key: config[key] for key in ("n", "first", "per_scene", "shifted", "videos")}
    try:
        bench_config = BenchConfig((name,), (), (), skills=tuple(config["skills"]), data=data, **drawing)
        cases = {case.id: case for case in bench_config.cases(name)}
        now = bench_config.to_dict()["models"][name]
    except (OSError, ValueError, TypeError, KeyError) as error:
        return _Asked({}, f"the questions cannot be read any more: {error}")
    if now["cases"] != model["cases"]:
        return _Asked({}, "the questions have changed since this run")
    if now["weights"] == "hub":
        return _Asked(cases, undrawn=f"{name} is on the hub; no weights are fetched for a page")
    changed = now["weights"] != model["weights"]
    return _Asked(cases, undrawn=f"the weights of {name} have changed since this run" if changed else "")
