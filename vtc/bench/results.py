"""Results: scores with paired intervals, and which recipes they separate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtc.core.budget import Keep
from vtc.core.statistics import (
    DRAWS,
    LEVEL,
    Floats,
    Interval,
    intervals,
)

from .cases import Case
from .config import BenchConfig
from .easy_vqa import NAME as EASY_VQA
from .easy_vqa import PUBLISHED, is_easy_vqa
from .explained import below_random
from .journal import BenchRow
from .variants import (
    ALL_TOKENS,
    BASELINES,
    FULL,
    NONE,
    TEXT_ALONE,
    Variant,
    digest,
)

SCHEMA = 1
GATE_KEEP, GATE_RECIPES, GATE_TEXT = 0.1, 3, 0.45
"""A bench tells recipes apart if at this keep so many differ from each other, and text alone scores less than that."""


@dataclass(frozen=True)
class Results:
    """One model's answers; each array is `[N]` in the order of `cases`, NaN where a case has no value.

    Attributes:
        cases: what was asked.
        variants: what was compared.
        scene: `[N]` numbers of scenes from 0 on.
        values: by measure (`exact`, `agreement`, `kl`, `tokens`, `layers`), then by variant key.
        refused: by variant key, why the model does not take the recipe.
        errors: by variant key, then by case, why there is no answer.
    """

    cases: Sequence[Case]
    variants: Sequence[Variant]
    scene: NDArray[np.int64]
    values: Mapping[str, Mapping[str, Floats]]
    refused: Mapping[str, str]
    errors: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(
        cls, model: str, cases: Sequence[Case], variants: Sequence[Variant], rows: Mapping[Any, BenchRow]
    ) -> Results:
        """Those of `model` among `rows`, which go by `BenchRow.key`."""
        number = {scene: i for i, scene in enumerate(dict.fromkeys(case.scene for case in cases))}
        scene = np.array([number[case.scene] for case in cases], dtype=np.int64)
        found = {variant.key: [rows.get((model, variant.key, case.id)) for case in cases] for variant in variants}
        names = {"exact": "exact", "agreement": "agree", "kl": "kl", "tokens": "tokens", "layers": "layers"}
        values = {
            name: {key: np.array([_number(row, field) for row in some]) for key, some in found.items()}
            for name, field in names.items()
        }
        whole = {variant.key: rows.get((model, variant.key, "")) for variant in variants}
        refused = {key: row.refused for key, row in whole.items() if row is not None and row.refused is not None}
        errors = {
            key: {row.id: row.error for row in some if row is not None and row.error is not None}
            for key, some in found.items()
        }
        return cls(cases, variants, scene, values, refused, errors)

    @property
    def metric(self) -> str:
        """`exact` where any true answer is known, else `agreement`."""
        return "exact" if any(case.answer is not None for case in self.cases) else "agreement"

    def score(self, variant: Variant) -> Floats:
        """`[N]` 1 for right, 0 for wrong, by the metric."""
        return self.values[self.metric][variant.key]

    def measured(self, keep: Keep) -> list[Variant]:
        """The recipes at `keep` that gave any answer."""
        at = [
            variant
            for variant in self.variants
            if variant.recipe is not None and variant.keep == keep and type(variant.keep) is type(keep)
        ]
        return [variant for variant in at if not np.isnan(self.score(variant)).all()]


def _number(row: BenchRow | None, field: str) -> float:
    value = None if row is None or row.error is not None else getattr(row, field)
    return float("nan") if value is None else float(value)


def separated(results: Results, keep: Keep, *, draws: int = DRAWS, seed: int = 0) -> list[tuple[str, str]]:
    """The pairs (better, worse) of recipes at `keep` whose paired 95 % interval excludes zero."""
    variants = results.measured(keep)
    pairs = [(a, b) for i, a in enumerate(variants) for b in variants[i + 1 :]]
    if not pairs:
        return []
    differences = np.stack([results.score(a) - results.score(b) for a, b in pairs], axis=1)
    found = zip(pairs, intervals(differences, results.scene, draws=draws, seed=seed), strict=True)
    return [
        (a.name, b.name) if one.low is not None and one.low > 0 else (b.name, a.name)
        for (a, b), one in found
        if one.excludes_zero
    ]


def mutually_separated(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The largest set of recipes in which every two are separated, in the order in which `pairs` name them."""
    apart = {frozenset(pair) for pair in pairs}
    best: list[str] = []

    def grow(chosen: list[str], rest: list[str]) -> None:
        nonlocal best
        best = chosen if len(chosen) > len(best) else best
        for i, name in enumerate(rest):
            if len(chosen) + len(rest) - i <= len(best):
                return
            grow([*chosen, name], [other for other in rest[i + 1 :] if frozenset((name, other)) in apart])

    grow([], list(dict.fromkeys(name for pair in pairs for name in pair)))
    return best


def gate(results: Results, pairs: Sequence[tuple[str, str]]) -> dict[str, Any] | None:
    """Return whether the questions tell recipes apart at keep 0.1, given the separated pairs there.

    None where no true answers are known. `holds` is None where the text alone was not asked.
    """
    if results.metric != "exact":
        return None
    apart = mutually_separated(pairs)
    text = results.values["exact"].get(TEXT_ALONE.key)
    alone = None if text is None or np.isnan(text).all() else float(np.nanmean(text))
    holds = None if alone is None else len(apart) >= GATE_RECIPES and alone < GATE_TEXT
    return {"keep": GATE_KEEP, "told_apart": apart, "text_alone": alone, "holds": holds}


def document(
    bench_config: BenchConfig,
    config: Mapping[str, Any],
    rows: Mapping[Any, BenchRow],
    failures: Mapping[str, str],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """All that was found, as JSON holds it.

    Args:
        config: of the plan.
        failures: models that could not be loaded, and why.
    """
    bootstrap = {"draws": draws, "seed": seed, "level": LEVEL, "resampled": "scenes"}
    models, errors = [], []
    for name in bench_config.models:
        head = {"name": name, **config["models"][name], "failed": failures.get(name)}
        if name in failures:
            models.append(head)
            continue
        results = Results.of(name, bench_config.cases(name), bench_config.variants, rows)
        head["words"] = bench_config.words(name)
        models.append({**head, **_model(results, _label(bench_config, name), bench_config.keeps, draws, seed)})
        errors += [{"model": name, **error} for error in _errors(results)]
    return {
        "schema": SCHEMA,
        "versions": config["versions"],
        "config": config,
        "config_hash": digest(config),
        "bootstrap": bootstrap,
        "published": PUBLISHED if is_easy_vqa(bench_config.data) else None,
        "own_questions": bench_config.data is not None and not is_easy_vqa(bench_config.data),
        "recipes": {r.name: {"hash": digest(r.to_dict()), "recipe": r.to_dict()} for r in bench_config.recipes},
        "models": models,
        "errors": errors,
    }


def _label(bench_config: BenchConfig, name: str) -> str:
    """The model's name and what it is asked about, as `explained.Explained.model` has it."""
    if bench_config.data is not None:
        return f"{name} {EASY_VQA if is_easy_vqa(bench_config.data) else 'own questions'}"
    return f"{name} videos" if bench_config.videos else name


def _model(results: Results, label: str, keeps: Sequence[Keep], draws: int, seed: int) -> dict[str, Any]:
    pairs = {keep: separated(results, keep, draws=draws, seed=seed) for keep in keeps}
    variants, scenes = _variants(results, draws, seed), int(results.scene.max()) + 1
    return {
        "metric": results.metric,
        "questions": len(results.cases),
        "scenes": scenes,
        "skills": sorted({case.skill for case in results.cases if case.skill is not None}),
        "arms": variants,
        "separated": [{"keep": keep, "pairs": [list(pair) for pair in found]} for keep, found in pairs.items()],
        "gate": gate(results, pairs[GATE_KEEP]) if GATE_KEEP in pairs else None,
        "below_random": below_random(label, scenes, variants),
    }


def _variants(results: Results, draws: int, seed: int) -> list[dict[str, Any]]:
    columns: list[Floats] = []
    for variant in results.variants:
        columns += _columns(results, variant)
    found = iter(intervals(np.stack(columns, axis=1), results.scene, draws=draws, seed=seed))
    out = []
    for variant in results.variants:
        measures = {name: _interval(next(found)) for name in MEASURES}
        status, why = _status(results, variant)
        tokens = results.values["tokens"][variant.key]
        entry = {"recipe": variant.name, "keep": variant.keep, "status": status, "why": why}
        entry["n"] = int((~np.isnan(tokens)).sum())
        entry["errors"] = len(results.errors[variant.key])
        for name in ("tokens", "layers"):
            found_ones = results.values[name][variant.key]
            entry[name] = None if np.isnan(found_ones).all() else float(np.nanmean(found_ones))
        entry["inside"] = variant.recipe is not None and variant.recipe.only_decoder
        out.append({**entry, **measures, "skills": _by_skill(results, variant)})
    return out


MEASURES = ("exact", "agreement", "kl", "versus_full", *(f"versus_{name}" for name in BASELINES))


def _columns(results: Results, variant: Variant) -> list[Floats]:
    """One for each of `MEASURES`; NaN throughout where there is nothing to compare with."""
    score, nothing = results.score(variant), np.full(len(results.cases), np.nan)
    recipe = variant.name not in (FULL, NONE)
    at = {other.name: other for other in results.measured(variant.keep)} if recipe else {}
    full = nothing if variant.name == FULL else score - results.score(ALL_TOKENS)
    others = [score - results.score(at[b]) if b in at and b != variant.name else nothing for b in BASELINES]
    return [*(results.values[name][variant.key] for name in ("exact", "agreement", "kl")), full, *others]


def _interval(one: Interval) -> dict[str, float | None] | None:
    return None if one.mean is None else asdict(one)


def _status(results: Results, variant: Variant) -> tuple[str, str | None]:
    if variant.key in results.refused:
        return "refused", results.refused[variant.key]
    errors = results.errors[variant.key]
    if errors and np.isnan(results.values["tokens"][variant.key]).all():
        return "failed", next(iter(errors.values()))
    return "measured", None


def _by_skill(results: Results, variant: Variant) -> dict[str, dict[str, float]]:
    score = results.score(variant)
    skills = np.array([case.skill or "" for case in results.cases])
    out = {}
    for skill in sorted(set(skills.tolist()) - {""}):
        own = score[(skills == skill) & ~np.isnan(score)]
        if len(own):
            out[skill] = {"score": float(own.mean()), "n": len(own)}
    return out


def _errors(results: Results) -> list[dict[str, Any]]:
    """Each case and reason once, with the number of variants that it cost."""
    tally: dict[tuple[str, str], int] = {}
    for errors in results.errors.values():
        for id, why in errors.items():
            tally[id, why] = tally.get((id, why), 0) + 1
    return [{"id": id, "why": why, "arms": count} for (id, why), count in tally.items()]
