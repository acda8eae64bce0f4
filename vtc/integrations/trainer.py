"""Recipes that change while a model is trained: LLaVolta's stages, curricula over the number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from transformers import TrainerCallback

from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe as named
from vtc.reduction.api import reduce_tokens, restore
from vtc.stages import LLaVolta

Entry = tuple[int, "Recipe | str | None"]


class RecipeSchedule(TrainerCallback):
    """Wraps the trained model again when training reaches a step; the model is the stock one again at the end.

    Steps are the optimiser's (`state.global_step`), so that gradient accumulation does not shift the schedule, and a
    run that goes on from a checkpoint finds its place. Pass it to a `Trainer` among its `callbacks`.

    Args:
        entries: (first optimiser step, recipe) with rising steps, the first of them 0; None is the stock model.

    Raises:
        TypeError, ValueError: entries that are not of that form, or an unknown recipe.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        steps = [step for step, _ in entries]
        if not steps or steps[0] != 0 or any(b <= a for a, b in pairwise(steps)):
            raise ValueError(f"entries start at steps {steps}; expected 0 first, then rising steps")
        self.entries = tuple((step, None if recipe is None else named(recipe)) for step, recipe in entries)
        self._at: int | None = None

    def due(self, step: int) -> int:
        """Return which entry holds at optimiser step `step`."""
        return sum(first <= step for first, _ in self.entries) - 1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wrap the model for the step that training starts or goes on at.

        Every entry is tried first, so that a layer that the model does not have is no surprise at a later step.

        Raises:
            ValueError: a recipe that the model cannot follow.
        """
        try:
            for _, recipe in self.entries[self.due(state.global_step) :]:
                if recipe is not None:
                    reduce_tokens(kwargs["model"], recipe)
        finally:
            restore(kwargs["model"])
        self._at = None
        self.on_step_begin(args, state, control, **kwargs)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wrap the model again where the schedule moves on."""
        due = self.due(state.global_step)
        if due == self._at:
            return
        self._at, recipe = due, self.entries[due][1]
        if recipe is None:
            restore(kwargs["model"])
        else:
            reduce_tokens(kwargs["model"], recipe)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Give the stock model back."""
        self._at = None
        restore(kwargs["model"])


def llavolta(
    stages: Sequence[tuple[int | float, int]] = ((2, 8), (2, 2), (16, 2)), pivots: Sequence[int] = (1300, 2600, 3900)
) -> RecipeSchedule:
    """The training schedule of LLaVolta (arXiv 2406.20092, section 3.3): less and less pooling, in the end none.

    Args:
        stages: (layer or share of the depth, stride) of each stage.
        pivots: the optimiser step at which each stage ends.

    Raises:
        ValueError: another number of pivots than stages, or pivots that do not rise.
    """
    if len(stages) != len(pivots):
        raise ValueError(f"pivots={tuple(pivots)} end {len(pivots)} stages, and there are {len(stages)}; give one each")
    recipes = [Recipe((LLaVolta(((layer, 1 / stride),)),), name=f"llavolta-{stride}") for layer, stride in stages]
    return RecipeSchedule([*zip((0, *pivots[:-1]), recipes, strict=True), (pivots[-1], None)])
