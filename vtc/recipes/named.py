"""The named recipes, and how a recipe is found by what a caller gives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vtc.core.budget import Keep
from vtc.stages import (
    BUILT_IN,
    Area,
    Cls,
    ClsSampling,
    Density,
    Feather,
    Grid,
    Joint,
    KCenter,
    Layerwise,
    LocalGlobal,
    MaxSum,
    Mean,
    Random,
    Stage,
    Stride,
    Thumbnail,
    ToDRE,
)

from .aliases import NOT_BUILT
from .composition import Recipe
from .registration import RECIPES, composed, register_alone, register_recipe
from .serialization import file_in

RecipeSpec = str | Path | Recipe | Stage | Sequence[Stage]
"""A name, the path of a recipe file or folder, a recipe, a stage, or stages."""
DEFAULT = "kcenter"
ESSENTIAL = {
    "kcenter": "single images; the default",
    "kcenter-mean": "the same, at a small keep",
    "todre": "tiles (InternVL, LLaVA-NeXT, LLaVA-OneVision)",
    "tome": "a cheaper vision tower (LLaVA-1.5)",
    "video": "videos; the default",
    "dycoke": "videos in which things are counted",
    "pyramiddrop": "inside the language model, as its own attention says",
    "resize": "the baseline to beat: a smaller image",
}
"""Recipes worth knowing first, and what each is for."""

for _stage in BUILT_IN:
    register_alone(_stage, "todre-late" if _stage is ToDRE else None)
for _selector in (KCenter, Cls, Random, Stride):
    register_recipe(f"{_selector.name}-mean", (_selector(), Mean()))
register_recipe("pool", (Grid(), Area()))
register_recipe("cls-outliers", ClsSampling(rule="outliers"))
register_recipe("todre", (Joint(), MaxSum(pivot="attention")))
register_recipe("globalcom2", (Thumbnail(), LocalGlobal()))
register_recipe("globalcom2-released", (Thumbnail(temperature=10.0, attend="logits"), LocalGlobal(attend="logits")))
register_recipe("tokencorr", (Density(), ClsSampling()))
register_recipe("kcenter+layerwise", (KCenter(), Layerwise()))
register_recipe("kcenter+feather", (KCenter(), Feather()))
register_recipe("todre+late", (Joint(), MaxSum(pivot="attention"), ToDRE()))


def recipe(
    spec: RecipeSpec = DEFAULT,
    *,
    keep: Keep | None = None,
    positions: str | None = None,
    seed: int | None = None,
    images_as: str | None = None,
) -> Recipe:
    """The recipe that `spec` names or is, with what the caller overrides.

    Args:
        spec: a name from `vtc recipes` or of its paper (case, `-`, `_` and blanks do not matter), the path of a recipe
            file (`.json`) or of a folder that holds `recipe.json`, a recipe, a stage such as `KCenter()`, or stages.
        keep, positions, seed, images_as: in place of the recipe's own, where not None.

    Raises:
        TypeError: `spec` or `keep` is of another type.
        ValueError: no recipe of that name (the nearest are suggested), or a value out of range.
        OSError: a path that cannot be read.
    """
    found = _found(spec)
    given = {"keep": keep, "positions": positions, "seed": seed, "images_as": images_as}
    return replace(found, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]


def _found(spec: RecipeSpec) -> Recipe:
    if isinstance(spec, Path):
        return Recipe.from_pretrained(spec) if spec.is_dir() else Recipe.load(spec)
    if not isinstance(spec, str):
        return composed(spec)
    if spec.endswith(".json"):
        return Recipe.load(spec)
    if RECIPES.canonical(spec) is None and spec and file_in(spec).is_file():
        return Recipe.from_pretrained(spec)
    return by_name(spec)


def by_name(spec: str) -> Recipe:
    """The recipe of a name alone: no file is looked at.

    Raises:
        ValueError: no recipe of that name (the nearest are suggested).
    """
    name = RECIPES.canonical(spec)
    if name is not None:
        return composed(RECIPES.get(name)(), name)
    relative = NOT_BUILT.get(re.sub(r"[-_+\s]", "", spec.casefold()))
    if relative is not None:
        raise ValueError(
            f"recipe {spec!r}: {relative.paper} is not built; the nearest built is {relative.recipe!r} ({relative.why})"
        )
    return composed(RECIPES.get(spec)(), spec)


def named_recipes() -> Iterator[Recipe]:
    """Every named recipe, in the order of registration."""
    for name in RECIPES:
        yield recipe(name)
