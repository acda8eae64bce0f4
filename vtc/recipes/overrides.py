"""A recipe of videos with other keyframes, clips or features than its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vtc.core.specification import Spec
from vtc.stages import Stage
from vtc.video.keyframes import keyframes as strategy_of
from vtc.video.stages import ClipBudget, Keyframes
from vtc.video.stages.two_densities import TwoDensities

from .composition import Recipe


def changed(
    recipe: Recipe,
    *,
    keyframes: Spec | None = None,
    scorer: str | None = None,
    segmenter: Spec | None = None,
    features: str | None = None,
) -> Recipe:
    """`recipe` with what is given in place of its own, in each stage that has such a thing.

    Args:
        recipe: of videos.
        keyframes: `Keyframes.strategy`, such as `aks` or `segments:segmenter=even`.
        scorer: `Keyframes.scorer`; for a strategy that asks it is `model` where nothing is said.
        segmenter: `ClipBudget.segmenter`, such as `even:parts=4`, and that of keyframes by `segments`.
        features: `Keyframes.features`, `ClipBudget.features` and those of the densities of `kffocus` and `tdc`:
            `color-layout`, `tower` or `timm:NAME`.

    Raises:
        TypeError: a value of another type.
        ValueError: an unknown name, a value out of range, or a recipe without a stage that it is about.
    """
    given = {"keyframes": keyframes, "scorer": scorer, "segmenter": segmenter, "features": features}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return recipe
    stages = tuple(_changed(stage, given) for stage in recipe.stages)
    for name, kinds in _ABOUT.items():
        if name in given and not any(_has(stage, name) for stage in stages):
            raise ValueError(
                f"{name}={given[name]!r}: recipe {recipe.name!r} has no {' or '.join(kinds)}; take one that has, such "
                "as 'video'"
            )
    return replace(recipe, stages=stages)


_ABOUT = {
    "keyframes": ("stage that leaves frames out",),
    "scorer": ("stage that leaves frames out",),
    "segmenter": ("budget over clips", "keyframes by 'segments'"),
    "features": ("stage that leaves frames out", "budget over clips"),
}
"""What each change is about, in words."""


def _has(stage: Stage, name: str) -> bool:
    if isinstance(stage, Keyframes):
        return name != "segmenter" or hasattr(stage.selector, "segmenter")
    if isinstance(stage, TwoDensities):
        return name == "features"
    return isinstance(stage, ClipBudget) and name in ("segmenter", "features")


def _changed(stage: Stage, given: dict[str, Any]) -> Stage:
    if isinstance(stage, ClipBudget):
        return replace(stage, **{name: given[name] for name in ("segmenter", "features") if name in given})
    if isinstance(stage, TwoDensities) and "features" in given:
        return replace(stage, features=given["features"])  # type: ignore[type-var]
    if not isinstance(stage, Keyframes):
        return stage
    selector = strategy_of(given.get("keyframes", stage.strategy))
    if "segmenter" in given and hasattr(selector, "segmenter"):
        selector = replace(selector, segmenter=given["segmenter"])  # type: ignore[type-var]
    scorer = given.get("scorer", stage.scorer if selector.asks else None)
    return replace(
        stage,
        strategy=selector,
        scorer="model" if scorer is None and selector.asks else scorer,
        features=given.get("features", stage.features),
    )
