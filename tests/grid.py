"""The shared grid: what takes part in every check of `test_grid_*.py`, and small tools that those checks share.

Checks against the oracle and of declared counts run on every recipe x family at every change (of a family that follows
another one, `Family.follows`, on representatives). The other invariants do so on the first recipe of each behaviour
class, and on the others with `pytest -m nightly`, as do further prompts, kernels and kinds of positions.

A new selector, or any other recipe that is known by name, is in it without a line here; those with decoder stages are
in the checks of `tests/decoder` likewise. A recipe beyond the named ones (parameters that matter, stages composed) is
one line in `COMPOSED`. A family is one line in `families.FAMILIES`, and one in `encoders.ENCODERS`, which says how its
encoder works.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.families import FAMILIES, Family
from vtc import Recipe, named_recipes, reduce_tokens
from vtc.recipes.composition import POSITIONS
from vtc.reduction.pipeline import encoder_cues
from vtc.stages import (
    KCenter,
    Mean,
    Random,
    Resize,
    Stride,
    ToMe,
)

COMPOSED = (
    Recipe((Resize(share=0.6), KCenter()), name="resize+kcenter"),
    Recipe((Resize(share=0.6), Random(), Mean()), name="resize+random-mean"),
    Recipe((Stride(),), keep=5, name="stride-5"),
    Recipe((ToMe(share=0.7, shape="decreasing"), KCenter(), Mean()), name="tome+kcenter-mean"),
    # Spread survivors have twins, so that a selector by features would choose among equals.
    Recipe((ToMe(share=0.6, spread=True), Stride()), name="tome-spread+stride"),
)
NAMED = tuple(replace(recipe, keep=0.3) for recipe in named_recipes() if not recipe.decoder)
RECIPES = (*NAMED, *(replace(r, seed=7) for r in COMPOSED))

# A prompt is a row of parts: an int is that many text tokens, a tuple an image: (seed, height, width in patches).
UNEVEN = [[3, (1, 12, 4), 4, (2, 4, 8), 5], [2, (3, 8, 6), 6], [9]]
"""Several images with text between, one image, none; rows of unlike length."""
SEVERAL = [[3, (1, 12, 4), 4, (2, 4, 8), 2, (4, 6, 6), 5]]
ADJACENT = [[3, (1, 12, 4), (2, 4, 8), 5], [(3, 8, 6), 2, (7, 2, 2), 3]]
"""Images with no text between them, one that opens the prompt, and one of a single token where sizes are free."""
PROMPTS = {"uneven": UNEVEN, "adjacent": ADJACENT}


def takes(family: Family, recipe: Recipe) -> bool:
    """Whether the recipe can run on the family at all; `test_grid_misuse` shows that the others are refused."""
    if recipe.is_video_recipe:
        return family.videos
    if recipe.input is not None and (not family.resizes or family.name == "llava-full"):
        return False
    if recipe.encoder is not None and family.folds not in ("fewer", "spread" if recipe.encoder.spread else "fewer"):
        return False
    if any(stage.thumbnail for stage in recipe.stages) and not family.thumbnails:
        return False
    return family.cues or not encoder_cues(recipe)


@dataclass(frozen=True)
class Case:
    """One cell of the grid."""

    family: Family
    recipe: Recipe

    def __str__(self) -> str:
        return f"{self.family.name}-{self.recipe.name}-{self.recipe.positions}"

    def model(self, attention: str = "sdpa") -> nn.Module:
        """The family's bench model, wrapped: the next case wraps the same one again. See `fresh` for one of its own."""
        return reduce_tokens(bench(self.family, attention), self.recipe)


def cases(families: Sequence[Family] = FAMILIES, positions: Sequence[str] = POSITIONS) -> list[Case]:
    """All cells over `families`, every recipe, and `positions`."""
    return [
        Case(family, replace(recipe, positions=mode))
        for family in families
        for recipe in RECIPES
        for mode in positions
        if takes(family, recipe)
    ]


def behaviour(recipe: Recipe) -> tuple[Any, ...]:
    """What an invariant that is no matter of selection can depend on: the hooks a recipe needs, and what it does."""
    cues = tuple(sorted(map(str, encoder_cues(recipe))))
    thumbnail = any(stage.thumbnail for stage in recipe.stages)
    merges = recipe.merger is not None and not cues
    return (
        type(recipe.input),
        recipe.encoder is not None,
        cues,
        thumbnail,
        merges,
        recipe.is_video_recipe,
        recipe.adaptive,
    )


REPRESENTATIVES = {behaviour(recipe): recipe.name for recipe in reversed(RECIPES)}
"""The first recipe of each behaviour class."""


def marked(case: Case, *values: Any) -> Any:
    """A case and further values as parameters of a test that runs at every change for representatives alone."""
    name = REPRESENTATIVES[behaviour(case.recipe)]
    return pytest.param(case, *values, marks=() if case.recipe.name == name else pytest.mark.nightly)


def over(found: Sequence[Case]) -> pytest.MarkDecorator:
    """Runs a test for each case: those of representatives at every change, the others at night."""
    return pytest.mark.parametrize("case", list(map(marked, found)), ids=str)


def over_all(found: Sequence[Case], name: str, values: Sequence[Any]) -> pytest.MarkDecorator:
    """Runs a test for each case and each of `values`, the argument `name`.

    At every change each recipe x family runs with original positions and the first value, and each representative with
    one of the two changed; the rest runs at night. So do the recipes of a family that follows another, but for its
    representatives.
    """

    def cell(case: Case, value: Any) -> Any:
        changed = (case.recipe.positions != POSITIONS[0]) + (value != values[0])
        if changed == 1 or (not changed and case.family.follows):
            return marked(case, value)
        return pytest.param(case, value, marks=pytest.mark.nightly if changed else ())

    return pytest.mark.parametrize(("case", name), [cell(case, value) for case in found for value in values], ids=str)


every_method = over(cases(positions=POSITIONS[:1]))
"""Every recipe x every family; at every change one of each behaviour class."""
every_case = over(cases())
"""Every recipe x every family x both kinds of positions; likewise."""
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@cache
def stock(family: Family, attention: str = "sdpa") -> nn.Module:
    """The stock model of a family. Shared between tests: never to be wrapped."""
    return family.build(attention)


def fresh(family: Family, attention: str = "sdpa") -> nn.Module:
    """A model with the same weights, free to be wrapped."""
    return copy.deepcopy(stock(family, attention))


@cache
def bench(family: Family, attention: str = "sdpa") -> nn.Module:
    """The model that cases wrap, one after the other: copying one for each would take longer than the checks."""
    return fresh(family, attention)


def generate(model: nn.Module, inputs: dict[str, Tensor], tokens: int = 4, **options: Any) -> Any:
    """Greedy unless told otherwise, with the logits of each step and no early end."""
    options = {"do_sample": False, "eos_token_id": None, "max_new_tokens": tokens, **options}
    return model.generate(**inputs, output_logits=True, return_dict_in_generate=True, **options)


def steps(out: Any) -> Tensor:
    """`[B, T, V]` the logits of each decoding step of `generate`."""
    return torch.stack(out.logits, dim=1)


def kept(model: nn.Module) -> list[list[int]]:
    """The places that the last call kept of each item."""
    return [item.reduction.anchor.tolist() for item in model.vtc.report.items]


def kept_by_row(model: nn.Module, rows: int) -> list[list[list[int]]]:
    """The same, by row of the batch."""
    found: list[list[list[int]]] = [[] for _ in range(rows)]
    for item in model.vtc.report.items:
        found[item.row].append(item.reduction.anchor.tolist())
    return found


@dataclass(frozen=True)
class Row:
    """What the language model was given of one row, without padding: `[S, D]` embeddings, `[axes, S]` positions."""

    embeds: Tensor
    positions: Tensor


@contextmanager
def watching(model: nn.Module) -> Iterator[list[list[Row]]]:
    """Notes what the language model is given: one entry per call, of one `Row` per row."""
    calls: list[list[Row]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        embeds, positions, mask = (kwargs[name] for name in ("inputs_embeds", "position_ids", "attention_mask"))
        size, length = embeds.shape[:2]
        if isinstance(mask, dict):  # one for each kind of layer: the last query of the full one sees all real tokens
            full = mask["full_attention"]
            mask = None if full is None else full[:, 0, -1] if full.dtype == torch.bool else full[:, 0, -1] == 0
        real = torch.ones(size, length).bool() if mask is None else mask[:, -length:].bool()
        places = positions.expand(*positions.shape[:-2], size, length)
        places = places[None] if places.ndim == 2 else places[-3:]
        calls.append([Row(embeds[r][real[r]].detach().clone(), places[:, r][:, real[r]]) for r in range(size)])

    handle = model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()
