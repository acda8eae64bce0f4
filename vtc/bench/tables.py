"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .explained import FEW
from .results import GATE_RECIPES, GATE_TEXT
from .variants import BASELINES, FULL, NONE

TITLES = {"exact": "exact match", "agreement": "agreement with the full model"}


def markdown(made: dict[str, Any]) -> str:
    """The tables of a document that `results.document` made."""
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    bootstrap = made["bootstrap"]
    lines = [
        "# Quality",
        "",
        f"{versions}; config {made['config_hash']}. Intervals: {bootstrap['level']:.0%}, paired bootstrap over scenes, "
        f"{bootstrap['draws']} draws, seed {bootstrap['seed']}. Scores and differences are in percent and percentage "
        "points; KL is the mean over the tokens of the full model's answer, in nats, from its distribution to the "
        "reduced model's; tokens are visual tokens that reach the language model, an image on average, and per layer "
        "is how many of them each of its layers is given, which differs where some leave inside it.",
    ]
    if made.get("published"):
        lines += ["", f"The questions are those of easy-VQA's test split; {made['published']}."]
    for model in made["models"]:
        lines += ["", f"## {model['name']}", "", *(_failed(model) if model["failed"] else _model(model))]
    if made["errors"]:
        head = ("model", "question", "arms without an answer", "why")
        rows = [(e["model"], e["id"], str(e["arms"]), e["why"]) for e in made["errors"]]
        lines += ["", "## Errors", "", *_table(head, rows)]
    return "\n".join(lines) + "\n"


def _failed(model: dict[str, Any]) -> list[str]:
    return [f"not measured: {model['failed']}"]


def _model(model: dict[str, Any]) -> list[str]:
    known = "" if model.get("words") is None else " ({:,} of {:,} are in words that it knows)".format(*model["words"])
    asked = f"{model['questions']} questions{known} about {model['scenes']} images; weights {model['weights']}."
    few = f" Fewer than {FEW} images: take the intervals for narrower than they should be."
    lines = [asked + (few if model["scenes"] < FEW else ""), "", *overview(model), *_gate(model), *_below(model)]
    keeps = dict.fromkeys(variant["keep"] for variant in model["arms"] if _before(variant))
    for keep in keeps:
        chosen = [
            variant for variant in model["arms"] if variant["keep"] == keep and type(variant["keep"]) is type(keep)
        ]
        lines += ["", f"### keep {keep}", "", *_detail(model, [variant for variant in chosen if _before(variant)])]
    if any(variant["inside"] for variant in model["arms"]):
        inside = [variant for variant in model["arms"] if variant["inside"]]
        lines += ["", "### inside the language model, each by its own schedule", "", *_detail(model, inside)]
    return lines


def _before(variant: dict[str, Any]) -> bool:
    """Return whether the variant is that of a recipe at a keep."""
    return variant["recipe"] not in (FULL, NONE) and not variant["inside"]


def matrix(model: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a table of scores, recipe by keep."""
    baselines = [variant for variant in model["arms"] if variant["recipe"] in (FULL, NONE)]
    recipes: dict[str, list[dict[str, Any]]] = {}
    for variant in model["arms"]:
        if _before(variant):
            recipes.setdefault(variant["recipe"], []).append(variant)
    keeps = [str(variant["keep"]) for variant in next(iter(recipes.values()), [])]
    head = ["recipe", *([f"keep {keep}" for keep in keeps] or [TITLES[model["metric"]]])]
    names = {FULL: "full model", NONE: "text alone"}
    width = max(1, len(keeps))
    rows = [[names[variant["recipe"]], *[_score(variant, model["metric"])] * width] for variant in baselines]
    return head, rows + [
        [name, *(_score(variant, model["metric"]) for variant in some)] for name, some in recipes.items()
    ]


def overview(model: dict[str, Any]) -> list[str]:
    """`matrix` as Markdown, under a line that says what the score is."""
    found = [f"Score: {TITLES[model['metric']]}.", "", *_table(*matrix(model))]
    head, rows = inside(model)
    return found + (["", *_table(head, rows)] if rows else [])


def _gate(model: dict[str, Any]) -> list[str]:
    gate = model["gate"]
    if gate is None:
        return []
    apart = ", ".join(gate["told_apart"]) or "none"
    pairs = next(len(entry["pairs"]) for entry in model["separated"] if entry["keep"] == gate["keep"])
    alone = (
        "text alone was not asked" if gate["text_alone"] is None else f"text alone: {_percent(gate['text_alone'])} %"
    )
    verdict = {True: "passed", False: "failed", None: "open"}[gate["holds"]]
    return [
        "",
        f"Gate (at keep {gate['keep']} at least {GATE_RECIPES} recipes of which every two are separated, text alone "
        f"under {GATE_TEXT:.0%}): **{verdict}**. Separated from each other: {len(gate['told_apart'])} ({apart}); "
        f"{pairs} pairs of recipes are separated in all, each by its own interval (not corrected for their number); "
        f"{alone}.",
    ]


def _below(model: dict[str, Any]) -> list[str]:
    """Return which recipes answer fewer questions than a random choice does, and why."""
    keeps: dict[tuple[str, str], list[str]] = {}
    for one in model["below_random"]:
        keeps.setdefault((one["recipe"], one["why"] or "**not explained**"), []).append(str(one["keep"]))
    if not keeps:
        return []
    rows = [(recipe, ", ".join(at), why) for (recipe, why), at in keeps.items()]
    return ["", "Below `random` by interval:", "", *_table(("recipe", "keep", "why"), rows)]


def inside(model: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a table of recipes whose tokens leave inside the language model only."""
    full = next(variant for variant in model["arms"] if variant["recipe"] == FULL)
    head = ["recipe", "tokens per layer", TITLES[model["metric"]]]
    rows = []
    for variant in (variant for variant in model["arms"] if variant["inside"]):
        share = f"{variant['layers'] / full['layers']:.0%}" if variant["layers"] and full["layers"] else "-"
        rows.append([variant["recipe"], share, _score(variant, model["metric"])])
    return head, rows


def _detail(model: dict[str, Any], chosen: Sequence[dict[str, Any]]) -> list[str]:
    others = _compared(model)
    head = ["recipe", "tokens", "per layer", TITLES[model["metric"]], *(f"against {other}" for other in others)]
    baselines = [variant for variant in model["arms"] if variant["recipe"] in (FULL, NONE)]
    rows = [_detail_row(model, variant, others) for variant in (*baselines, *chosen)]
    return _table([*head, "agreement", "KL", *model["skills"]], rows)


def _compared(model: dict[str, Any]) -> list[str]:
    """The full model and those baselines that recipes were compared with."""
    return ["full", *(b for b in BASELINES if any(variant[f"versus_{b}"] is not None for variant in model["arms"]))]


def _detail_row(model: dict[str, Any], variant: dict[str, Any], others: Sequence[str]) -> list[str]:
    if variant["status"] != "measured" or not variant["n"]:
        return [variant["recipe"], _why(variant), *["-"] * (4 + len(others) + len(model["skills"]))]
    skills = (variant["skills"].get(skill) for skill in model["skills"])
    return [
        variant["recipe"],
        f"{variant['tokens']:.1f}",
        f"{variant['layers']:.1f}",
        _score(variant, model["metric"]),
        *(_difference(variant[f"versus_{other}"]) for other in others),
        _percent(variant["agreement"]["mean"]),
        f"{variant['kl']['mean']:.4f}",
        *("-" if skill is None else _percent(skill["score"]) for skill in skills),
    ]


def _score(variant: dict[str, Any], metric: str) -> str:
    if variant["status"] != "measured" or variant[metric] is None:
        return variant["status"] if variant["status"] != "measured" else "-"
    return _percent(variant[metric]["mean"])


def _difference(one: dict[str, Any] | None) -> str:
    if one is None:
        return "-"
    bounds = "" if one["low"] is None else f" [{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]"
    return f"{100 * one['mean']:+.1f}{bounds}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _why(variant: dict[str, Any]) -> str:
    return f"{variant['status']}: {variant['why']}" if variant["why"] else "no answers"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
