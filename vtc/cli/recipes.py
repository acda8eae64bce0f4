"""The tables that `vtc recipes` prints."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from vtc.recipes.composition import Recipe
from vtc.recipes.named import named_recipes


def recipes_table() -> Table:
    """Every named recipe, in sections: of images and videos, of videos alone, inside the language model."""
    table = Table("recipe", "of", "count", "cost", "how")
    table.columns[0].no_wrap = True
    table.columns[3].max_width = 7
    table.columns[4].overflow = "fold"
    sections: dict[str, list[Recipe]] = {"any": [], "video": [], "layers": []}
    for recipe in named_recipes():
        sections["video" if recipe.is_video_recipe else "layers" if recipe.decoder else "any"].append(recipe)
    for kind, recipes in sections.items():
        for recipe in recipes:
            count = "adaptive" if any(stage.adaptive for stage in recipe.stages) else "exact"
            table.add_row(recipe.name, kind, count, _listed(s.cost for s in recipe.stages), _how(recipe))
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
