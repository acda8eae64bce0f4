"""Variants of a benchmark: the full model, no image at all, and every recipe at every keep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vtc.core.budget import Keep
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe as named
from vtc.recipes.registration import RECIPES

FULL, NONE = "full", "none"
BASELINES = ("random", "resize", "uniform")
"""What recipes are compared with beside the full model: as many tokens by chance, fewer pixels, and fewer frames."""


@dataclass(frozen=True)
class Variant:
    """One way to answer.

    Attributes:
        name: the recipe's name; `full` for the stock model, `none` for the question without its image.
        keep: what the recipe keeps; 1.0 for `full`, 0.0 for `none`.
        recipe: None for the stock model.
    """

    name: str
    keep: Keep
    recipe: Recipe | None = None

    @property
    def key(self) -> str:
        """Its name in files; a share and a count are never taken for each other."""
        return f"{self.name}@{self.keep!r}"


ALL_TOKENS = Variant(FULL, 1.0)
TEXT_ALONE = Variant(NONE, 0.0)


def variants(recipes: Iterable[Recipe], keeps: Sequence[Keep], text_alone: bool = True) -> list[Variant]:
    """The full model, the text alone where it is wanted, then each recipe at each keep.

    A recipe of decoder stages alone has one variant: all tokens reach the language model, and leave by its own
    schedule.
    """
    out = [ALL_TOKENS, *([TEXT_ALONE] if text_alone else [])]
    for one in recipes:
        if one.only_decoder:
            out.append(Variant(one.name, 1.0, one))
        else:
            out += [Variant(one.name, keep, replace(one, keep=keep)) for keep in keeps]
    return out


def chosen(
    names: Sequence[str], positions: str | None = None, seed: int | None = None, videos: bool = False
) -> tuple[list[Recipe], bool]:
    """The recipes that `names` call for, and whether `none` is among them.

    Where there are no names all are, those about the frames of a video only for `videos`: on images they do what
    others do.

    Raises:
        ValueError: an unknown recipe, one named twice, or a recipe file whose name is taken by a baseline.
    """
    wanted = list(names) or [NONE, *RECIPES]
    found = [named(name, positions=positions, seed=seed) for name in wanted if name != NONE]
    if not names and not videos:
        found = [one for one in found if not one.is_video_recipe]
    labels = [one.name for one in found]
    for label in labels:
        if label in (FULL, NONE):
            raise ValueError(f"--recipes: a recipe file is named {label!r}, which is a baseline here; change its name")
        if labels.count(label) > 1:
            raise ValueError(f"--recipes: {label!r} is named twice; name it once, or give the recipe file another name")
    return found, NONE in wanted


def parse_keeps(text: str) -> tuple[Keep, ...]:
    """`--keep`: numbers parted by commas; a whole number of 2 or more is a count, all else a share.

    Raises:
        ValueError: no number, one twice, or one out of range.
    """
    keeps: list[Keep] = []
    for part in text.split(","):
        try:
            number = float(part)
        except ValueError:
            raise ValueError(f"--keep {part!r} is no number; pass shares such as 0.25 or counts such as 64") from None
        keeps.append(int(number) if number >= 2 and number.is_integer() else number)
    if len(set(keeps)) < len(keeps):
        raise ValueError(f"--keep {text!r} names a number twice; name it once")
    return tuple(keeps)


def digest(value: Any) -> str:
    """Twelve hex digits of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
