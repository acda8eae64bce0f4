"""How many visual tokens a recipe keeps of a medium: arithmetic, before any encoder runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vtc.adapters import Media, find
from vtc.core.registry import nearest
from vtc.core.tokens import Layout
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe as named
from vtc.recipes.registration import RECIPES


@dataclass(frozen=True)
class Count:
    """Visual tokens, structural ones among them: those that go on, and all."""

    after: int
    before: int

    def __str__(self) -> str:
        return f"{self.after} of {self.before} visual tokens"


def layouts(model: Any, inputs: Any, *, video: bool = False) -> tuple[Layout, ...]:
    """Return where the visual tokens of a prompt stand.

    Args:
        model: wrapped or not.
        inputs: its keyword arguments.
        video: whether its images are the frames of one video.
    """
    media = find(model).media(inputs)
    return (Media.video(media).layout,) if video else tuple(item.layout for item in media)


def count(recipe: Recipe, items: Sequence[Layout]) -> Count:
    """Return the token counts of items, as `model.vtc.count` has them; of an adaptive recipe the most possible."""
    fixed = sum(sum(item.structurals) for item in items)
    before = sum(sum(item.candidates) for item in items)
    return Count(sum(recipe.count(item) for item in items) + fixed, before + fixed)


def chosen(name: str, keep: float, *, frames_are_images: bool = False) -> Recipe:
    """The recipe that a visitor of the page chose.

    A recipe that acts inside the language model alone follows its own schedule, and `keep` is left out. Files are not
    read: names come over the network.

    Raises:
        ValueError: no recipe of that name, or a `keep` out of (0, 1].
    """
    known = list(RECIPES)
    if name not in known:
        raise ValueError(f"recipe={name!r} is unknown{nearest(name, known)}; `vtc recipes` lists all")
    if isinstance(keep, bool) or not 0 < keep <= 1:
        raise ValueError(f"keep={keep!r}; expected a share of the visual tokens above 0 and at most 1, such as 0.25")
    found = named(name)
    if not found.only_decoder:
        found = named(name, keep=float(keep))
    return replace(found, images_as="frames") if frames_are_images else found
