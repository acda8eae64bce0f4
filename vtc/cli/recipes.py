"""The tables that `vtc recipes` prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from vtc.recipes.composition import Recipe
from vtc.recipes.named import ESSENTIAL, named_recipes, recipe
from vtc.recipes.registration import RECIPES


def essential_table() -> Table:
    """The recipes to know first, and what to take each for."""
    table = Table("recipe", "take it for", "paper", title="Which recipe to take for what")
    table.columns[0].no_wrap = True
    for name, use in ESSENTIAL.items():
        chosen = recipe(name)
        table.add_row(name, use, _listed(stage.paper for stage in chosen.stages))
    table.caption = f"`vtc recipes --all` lists all {len(RECIPES)}; names of papers work too, such as divprune"
    return table


def facts(every: bool) -> list[dict[str, Any]]:
    """The essential recipes, or all, as JSON can hold them."""
    return [_facts(recipe(name)) for name in (RECIPES if every else ESSENTIAL)]


def _facts(chosen: Recipe) -> dict[str, Any]:
    return {
        "name": chosen.name,
        "aliases": list(RECIPES.aliases(chosen.name)),
        "use": ESSENTIAL.get(chosen.name),
        "of": _kind(chosen),
        "exact": not any(stage.adaptive for stage in chosen.stages),
        "cost": [stage.cost for stage in chosen.stages if stage.cost],
        "papers": list(dict.fromkeys(stage.paper for stage in chosen.stages if stage.paper)),
        "signals": [stage.signal for stage in chosen.stages if stage.signal],
        "stages": chosen.labels,
    }


def _kind(chosen: Recipe) -> str:
    return "video" if chosen.is_video_recipe else "layers" if chosen.decoder else "any"


def recipes_table() -> Table:
    """Every named recipe, in sections: of images and videos, of videos alone, inside the language model."""
    table = Table("recipe", "of", "count", "cost", "how")
    table.columns[0].no_wrap = True
    table.columns[3].max_width = 7
    table.columns[4].overflow = "fold"
    sections: dict[str, list[Recipe]] = {"any": [], "video": [], "layers": []}
    for found in named_recipes():
        sections[_kind(found)].append(found)
    for kind, recipes in sections.items():
        for found in recipes:
            count = "adaptive" if any(stage.adaptive for stage in found.stages) else "exact"
            table.add_row(found.name, kind, count, _listed(s.cost for s in found.stages), _how(found))
        table.add_section()
    table.caption = (
        "of: layers, inside the language model. cost: products of token rows to decide, for N tokens of which K stay; "
        "-: next to nothing."
    )
    return table


def _how(recipe: Recipe) -> str:
    """The papers, what is looked at, and the stages, a line each."""
    papers = _listed(stage.paper for stage in recipe.stages)
    signals = _listed(stage.signal for stage in recipe.stages)
    lines = [f"looks at: {signals}", ", ".join(recipe.labels)]
    return "\n".join(lines if papers == "-" else [papers, *lines])


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(part for part in parts if part)) or "-"


def strategies_table() -> Table:
    """How a question about a video can be asked."""
    from vtc.video.qa.strategies import STRATEGIES

    table = Table("plan (vtc ask --plan)", "calls of the model", "paper")
    for name in STRATEGIES:
        strategy = STRATEGIES.get(name)
        table.add_row(name, strategy.calls, strategy.paper or "-")
    return table
