"""The page about a benchmark of `vtc bench quality`: what each recipe cost in answers, and which answers those were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtc.bench.plot import curve_of, full_variant, is_recipe, measured
from vtc.bench.tables import TITLES, inside, matrix

from .benchmark_run import BenchmarkRun, Rows, swaps
from .failure_examples import worst
from .overlay_renderer import OverlayRenderer
from .page_model import Section, Table


def sections(run: BenchmarkRun, examples: int, renderer: OverlayRenderer | None) -> list[Section]:
    """One section a model.

    Args:
        examples: at most so many a model.
        renderer: None: no overlays, and no model is loaded.
    """
    out = []
    for model in run.document["models"]:
        if model["failed"]:
            out.append(Section(model["name"], [f"not measured: {model['failed']}"]))
            continue
        rows = run.rows.get(model["name"], {})
        out.append(
            Section(
                model["name"],
                _notes(model),
                _cards(model),
                curve_of(model),
                [*_tables(model, rows), *_errors(run, model["name"])],
                worst(run, model, rows, examples, renderer),
            )
        )
    return out


def intro(run: BenchmarkRun) -> list[str]:
    """Return recipe, model and versions of the run."""
    document = run.document
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    bootstrap = document["bootstrap"]
    return [
        f"vtc bench quality; {versions}; config {document['config_hash']}.",
        f"Intervals: {bootstrap['level']:.0%}, paired bootstrap over scenes, {bootstrap['draws']} draws, seed "
        f"{bootstrap['seed']}. Tokens are visual tokens that reach the language model. The quality benchmark measures "
        "no times.",
    ]


def _notes(model: Mapping[str, Any]) -> list[str]:
    asked = f"{model['questions']} questions about {model['scenes']} scenes; weights {model['weights']}."
    few = " Fewer than 30 scenes: take the intervals for narrower than they should be." if model["scenes"] < 30 else ""
    return [f"Score: {TITLES[model['metric']]}. {asked}{few}"]


def _cards(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    full, metric = full_variant(model), model["metric"]
    if full is None:
        return []
    cards = [("all tokens: score", f"{100 * full[metric]['mean']:.1f} %"), ("all tokens", f"{full['tokens']:.0f}")]
    free = [variant for variant in measured(model) if is_recipe(variant) and variant["versus_full"] is not None]
    free = [
        variant for variant in free if variant["versus_full"]["low"] is not None and variant["versus_full"]["high"] >= 0
    ]
    if free:
        best = min(free, key=lambda variant: (variant["layers"], -variant[metric]["mean"]))
        cards.append(("fewest tokens per layer not told apart from all", f"{best['layers'] / full['layers']:.0%}"))
        cards.append(("by", _label(best)))
    return cards


def _label(variant: Mapping[str, Any]) -> str:
    return str(variant["recipe"]) if variant["inside"] else f"{variant['recipe']}, keep {variant['keep']}"


def _tables(model: Mapping[str, Any], rows: Rows) -> list[Table]:
    made = dict(model)
    tables: list[Table] = [("Scores, recipe by keep (%)", *matrix(made))]
    if inside(made)[1]:
        tables.append(("Recipes whose tokens leave inside the language model", *inside(made)))
    full, metric = full_variant(model), model["metric"]
    head = ("recipe", "tokens", "saved", "score (%)", "against all tokens", "lost", "gained", "no answer")
    detail: list[list[object]] = []
    for variant in model["arms"]:
        if not is_recipe(variant):
            continue
        if variant["status"] != "measured" or not variant["n"] or variant[metric] is None or full is None:
            why = f"{variant['status']}: {variant['why']}" if variant["why"] else "no answers"
            detail.append([_label(variant), why, *["-"] * 5, variant["errors"]])
            continue
        lost, gained = swaps(rows, f"{variant['recipe']}@{variant['keep']!r}", metric)
        saved = 1 - variant["layers"] / full["layers"] if full["layers"] else 0.0
        score, against = f"{100 * variant[metric]['mean']:.1f}", _difference(variant["versus_full"])
        tokens = f"{variant['tokens']:.1f}"
        detail.append(
            [_label(variant), tokens, f"{saved:.0%}", score, against, len(lost), len(gained), variant["errors"]]
        )
    caption = "Each recipe against all tokens: saved tokens (per layer), questions it lost and gained"
    return [*tables, (caption, head, detail)] if detail else tables


def _difference(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "-"
    bounds = "" if one["low"] is None else f" [{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]"
    return f"{100 * one['mean']:+.1f}{bounds}"


def _errors(run: BenchmarkRun, name: str) -> list[Table]:
    errors = [error for error in run.document.get("errors", ()) if error["model"] == name]
    rows = [(error["id"], error["arms"], error["why"]) for error in errors]
    return [("Errors", ("question", "arms without an answer", "why"), rows)] if rows else []
