"""Score over kept tokens, one panel a model, as PNG and SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .tables import TITLES
from .variants import FULL, NONE

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which people with any colour vision can tell apart (without the yellow, too pale for a line)."""
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw(made: dict[str, Any], stem: Path) -> list[Path]:
    """Draw a document that `results.document` made into `stem`.png and .svg, and say where they are.

    Raises:
        ValueError: matplotlib is not installed, or no model was measured.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError('the curve needs matplotlib: pip install "vtc-vlm[bench]"') from error
    models = [model for model in made["models"] if not model["failed"]]
    if not models:
        raise ValueError("no model was measured, so there is no curve")
    names = list(
        dict.fromkeys(variant["recipe"] for model in models for variant in model["arms"] if _is_recipe(variant))
    )
    figure = Figure(figsize=(5.2 * len(models) + 2.2, 4.6), layout="constrained")
    panels = figure.subplots(1, len(models), squeeze=False)[0]
    for panel, model in zip(panels, models, strict=True):
        _panel(panel, model, names)
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside right center", fontsize=8, frameon=False)
    files = [stem.with_name(f"{stem.name}{ending}") for ending in (".png", ".svg")]
    for file in files:
        # No date, so that the same results give the same file.
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files


def _is_recipe(variant: dict[str, Any]) -> bool:
    return variant["recipe"] not in (FULL, NONE)


def _panel(panel: Any, model: dict[str, Any], names: list[str]) -> None:
    metric = model["metric"]
    measured = [variant for variant in model["arms"] if variant["status"] == "measured" and variant[metric] is not None]
    full = next((variant for variant in measured if variant["recipe"] == FULL), None)
    for i, name in enumerate(names):
        own = sorted(
            (variant for variant in measured if variant["recipe"] == name), key=lambda variant: variant["layers"]
        )
        if not own or full is None:
            continue
        share = [100 * variant["layers"] / full["layers"] for variant in own]
        # Lines of one colour differ by their marks too.
        style = {"color": COLORS[i % 7], "linestyle": LINES[i // 7 % 4], "marker": MARKERS[(i + 2 * (i // 7)) % 7]}
        panel.plot(
            share, [100 * variant[metric]["mean"] for variant in own], label=name, markersize=4, linewidth=1.2, **style
        )
    for name, label, line in ((FULL, "full model", "-"), (NONE, "text alone", ":")):
        for variant in measured:
            if variant["recipe"] == name:
                panel.axhline(100 * variant[metric]["mean"], color="grey", linestyle=line, linewidth=1, label=label)
    panel.set_xscale("log")
    panel.set_xlabel("visual tokens per layer of the language model (% of all, log scale)")
    panel.set_ylabel(f"{TITLES[metric]} (%)")
    panel.set_title(model["name"])
    ticks = (
        sorted({round(100 * variant["layers"] / full["layers"], 3) for variant in measured if _is_recipe(variant)})
        if full
        else []
    )
    _ticks(panel, ticks)
    panel.grid(alpha=0.3)


def _ticks(panel: Any, shares: list[float]) -> None:
    """Labels at round shares within the range, in plain numbers."""
    if not shares:
        return
    round_ones = [x for x in (1, 2, 5, 10, 25, 50, 100) if shares[0] * 0.8 <= x <= shares[-1] * 1.25]
    panel.set_xticks(round_ones or shares[:1], labels=[f"{x:g}" for x in (round_ones or shares[:1])])
    panel.minorticks_off()
