"""Time to the first token over kept tokens as a chart: one panel a batch, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .plot import DRAWN, Curve, Point, figure, plot
from .speed_tables import by_batch

IDEAL = "the ideal"


def speed_curve(rows: Sequence[Mapping[str, Any]]) -> Curve | None:
    """The times of a batch; None where no recipe was measured at two numbers of tokens, which makes no curve.

    Args:
        rows: of a batch, the stock model's first, see `speed_tables.by_batch`.
    """
    full, recipes = rows[0], [row for row in rows[1:] if not row["refused"]]

    def point(tokens: int, spreads: Sequence[Mapping[str, float]]) -> Point:
        scale = 100 / full["first"]["median"]
        times = (scale * median(spread[part] for spread in spreads) for part in ("median", "low", "high"))
        return Point(100 * tokens / full["tokens"], *times)

    points = [(row["name"], point(row["tokens"], [row["first"]])) for row in recipes]
    # As many embeddings have one ideal, which each recipe timed for itself.
    ideals: dict[int, list[Mapping[str, float]]] = {}
    for row in recipes:
        if row["ideal"]:
            ideals.setdefault(row["tokens"], []).append(row["ideal"])
    points += [(IDEAL, point(tokens, spreads)) for tokens, spreads in ideals.items()]
    curve = Curve.of(
        points,
        "visual tokens (% of all, log scale)",
        "time to the first token (% of that with all tokens)",
        {"all tokens": 100.0},
    )
    return curve if any(len(own) > 1 for own in curve.series.values()) else None


def draw_speed(made: Mapping[str, Any], stem: Path) -> list[Path]:
    """Draw a document of `speed_tables.document` into `stem`.png and .svg, and say where they are; [] without curves.

    Of many recipes the first are drawn. The ideal of a number of tokens is the median of what recipes timed it to be.

    Raises:
        ImportError: matplotlib is not installed.
    """
    found = {batch: curve for batch, rows in by_batch(made).items() if (curve := speed_curve(rows))}
    if not found:
        return []
    recipes = [
        name for name in dict.fromkeys(name for curve in found.values() for name in curve.series) if name != IDEAL
    ]
    names = [*recipes[: DRAWN - 1], IDEAL]
    with figure(4.6 * len(found) + 1.6, 4.4) as drawn:
        panels = drawn.subplots(1, len(found), squeeze=False)[0]
        handles: dict[str, Any] = {}
        for panel, (batch, curve) in zip(panels, found.items(), strict=True):
            handles |= plot(panel, curve.only(names), names)
            panel.set_title(f"{made['model']}, batch of {batch}")
            panel.set_ylim(0)
        drawn.legend(list(handles.values()), list(handles), loc="outside right center", fontsize=8, frameon=False)
        files = [stem.with_name(f"{stem.name}{ending}") for ending in (".png", ".svg")]
        for file in files:
            drawn.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files
