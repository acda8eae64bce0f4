"""Score over kept tokens as a chart: one panel a model, as PNG and SVG."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .tables import TITLES
from .variants import FULL, NONE

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which people with any colour vision can tell apart (without the yellow, too pale for a line)."""
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SHARES = (0.5, 1, 2, 5, 10, 25, 50, 100)
"""Percent of the tokens that may have a tick."""
DRAWN = 8
"""Recipes of a chart at most: more lines nobody can follow. The tables have all."""
ALWAYS = ("kcenter", "random", "resize")
"""Recipes that are among them: the default, and what every other is compared with."""
AT = (5, 10, 25, 50)
"""Percent of the tokens at which recipes are compared for it."""
NEEDED = "the curve needs matplotlib: pip install matplotlib"


@dataclass(frozen=True)
class Point:
    """One measurement: percent of the tokens, percent of the score, and the bounds of that where they are known."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Curve:
    """Scores over shares of tokens.

    Attributes:
        series: the measurements of each recipe, from few tokens to many; none of no tokens, as the scale is a log.
        levels: what is scored whatever is kept, by name.
        x_label, y_label: of the axes.
    """

    series: Mapping[str, Sequence[Point]]
    levels: Mapping[str, float]
    x_label: str
    y_label: str

    @classmethod
    def of(
        cls, points: Iterable[tuple[str, Point]], x_label: str, y_label: str, levels: Mapping[str, float] | None = None
    ) -> Curve:
        """That of some points by name, in any order; those without tokens are left out."""
        series: dict[str, list[Point]] = {}
        for name, point in points:
            if point.x > 0:
                series.setdefault(name, []).append(point)
        ordered = {name: sorted(own, key=lambda point: point.x) for name, own in series.items()}
        return cls(ordered, levels or {}, x_label, y_label)

    def only(self, names: Sequence[str]) -> Curve:
        """The same with the series of `names` alone."""
        return replace(self, series={name: own for name, own in self.series.items() if name in names})


def measured(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The variants of a model in a document of `results.document` that have a score."""
    found = [variant for variant in model["arms"] if variant["status"] == "measured"]
    return [variant for variant in found if variant[model["metric"]] is not None and variant["n"]]


def full_variant(model: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The one that keeps all tokens, if it was measured."""
    return next((variant for variant in measured(model) if variant["recipe"] == FULL), None)


def is_recipe(variant: Mapping[str, Any]) -> bool:
    """Return whether the variant is that of a recipe, and not all tokens or none."""
    return variant["recipe"] not in (FULL, NONE)


def curve_of(model: Mapping[str, Any]) -> Curve | None:
    """The scores of a model in a document; None where it was not measured with all tokens."""
    full, metric = full_variant(model), model["metric"]
    if full is None or not full["layers"]:
        return None
    scores = [(variant, 100 * variant[metric]["mean"]) for variant in measured(model)]
    return Curve.of(
        [(v["recipe"], Point(100 * v["layers"] / full["layers"], score)) for v, score in scores if is_recipe(v)],
        "visual tokens per layer of the language model (% of all, log scale)",
        f"{TITLES[metric]} (%)",
        {"all tokens" if v["recipe"] == FULL else "text alone": score for v, score in scores if not is_recipe(v)},
    )


def draw(made: Mapping[str, Any], stem: Path) -> list[Path]:
    """Draw a document that `results.document` made into `stem`.png and .svg, and say where they are.

    Of many recipes the `DRAWN` best are drawn.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no model was measured with all tokens.
    """
    curves = {model["name"]: curve for model in made["models"] if not model["failed"] and (curve := curve_of(model))}
    if not curves:
        raise ValueError("no model was measured with all its tokens, so there is no curve; see the errors")
    names = best(curves.values())
    with figure(5.2 * len(curves) + 2.2, 4.6) as drawn:
        panels = drawn.subplots(1, len(curves), squeeze=False)[0]
        handles: dict[str, Any] = {}
        for panel, (model, curve) in zip(panels, curves.items(), strict=True):
            handles |= plot(panel, curve.only(names), names)
            panel.set_title(model)
        drawn.legend(list(handles.values()), list(handles), loc="outside right center", fontsize=8, frameon=False)
        files = [stem.with_name(f"{stem.name}{ending}") for ending in (".png", ".svg")]
        for file in files:
            drawn.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files


def best(curves: Iterable[Curve], most: int = DRAWN) -> list[str]:
    """The names of `most` series, in the order in which they come: `ALWAYS`, then those with the highest scores.

    Scores are compared at `AT`, on the line between two measurements; where a series has none it counts as 0.
    """
    names: dict[str, None] = {}
    score: defaultdict[str, float] = defaultdict(float)
    for curve in curves:
        for name, points in curve.series.items():
            names[name] = None
            score[name] += _mean_score(points)
    ranked = sorted(names, key=lambda name: (name not in ALWAYS, -score[name]))[:most]
    return [name for name in names if name in ranked]


def _mean_score(points: Sequence[Point]) -> float:
    x, y = [math.log(point.x) for point in points], [point.y for point in points]
    at = np.interp([math.log(share) for share in AT], x, y, left=0.0, right=0.0)
    return float(at.mean()) + 1e-3 * max(y)  # where all are single points beside those shares, the higher one


@contextmanager
def figure(width: float, height: float, text: str = "path") -> Iterator[Any]:
    """Context manager: a matplotlib figure of `width` by `height` inches, to be saved in the block.

    The same drawing gives the same SVG, and a name with dollars in it is no formula.

    Args:
        text: of the SVG: `path`, the same everywhere, or `none`, in the reader's font.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(NEEDED) from error
    with rc_context({"svg.hashsalt": "vtc", "svg.fonttype": text, "text.parse_math": False}):
        yield Figure(figsize=(width, height), layout="constrained")


def plot(panel: Any, curve: Curve, names: Sequence[str]) -> dict[str, Any]:
    """Draw `curve` into axes of matplotlib; the line of each series and level is returned by its name.

    Args:
        names: of series, in an order that gives each its colour, dashes and marks.
    """
    lines = {}
    for name, points in curve.series.items():
        i = names.index(name)
        color, dashes = COLORS[i % 7], LINES[i // 7 % 4]  # lines of one colour differ by their marks too
        style = {"color": color, "linestyle": dashes, "marker": MARKERS[(i + 2 * (i // 7)) % 7], "clip_on": False}
        for x, low, high in [(p.x, p.low, p.high) for p in points if p.low is not None]:
            panel.vlines(x, low, high, color=color, alpha=0.35)
        lines[name] = panel.plot([p.x for p in points], [p.y for p in points], markersize=4, linewidth=1.2, **style)[0]
    for (name, y), dashes in zip(curve.levels.items(), LINES, strict=False):
        lines[name] = panel.axhline(y, color="grey", linestyle=dashes, linewidth=1)
    _scales(panel, curve)
    panel.set_xlabel(curve.x_label)
    panel.set_ylabel(curve.y_label)
    panel.grid(alpha=0.3)
    return lines


def _scales(panel: Any, curve: Curve) -> None:
    """A log scale with plain numbers at round shares, and scores between whole tens."""
    points = [point for points in curve.series.values() for point in points]
    low, high = min((point.x for point in points), default=100), max((point.x for point in points), default=100)
    panel.set_xscale("log")
    shares = [x for x in SHARES if low * 0.8 <= x <= high * 1.25] or [low]
    panel.set_xticks(shares, labels=[f"{x:.3g}" for x in shares])
    panel.minorticks_off()
    scores = [y for p in points for y in (p.y, p.low, p.high) if y is not None] + list(curve.levels.values())
    bottom, top = math.floor(min(scores, default=0) / 10) * 10, math.ceil(max(scores, default=0) / 10) * 10
    panel.set_ylim(bottom, max(top, bottom + 10))
