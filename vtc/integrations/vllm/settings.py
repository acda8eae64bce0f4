"""What recipe an item is reduced by: the engine's or the request's, and how it reaches the workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from vtc.recipes.composition import Recipe
from vtc.recipes.named import DEFAULT, recipe
from vtc.recipes.servable import why_unservable

from ..recipe_checks import check_runs
from ..request_specs import from_request

KEY = "vtc"
"""In `hf_overrides` of an engine and `mm_processor_kwargs` of a request: {"recipe": ..., "keep": ..., "seed": ...}."""
ENTRIES = ("recipe", "keep", "seed")
NUMBER = f"{KEY}_request"
"""Beside `KEY` in a request: which one it is, where its counts are reported (`request_report.py`)."""


def recipe_of(hf_config: Any, kwargs: Mapping[str, Any]) -> Recipe | None:
    """The recipe of a request; None where the engine was not given `vtc`.

    Args:
        hf_config: of the model, with the overrides of the engine.
        kwargs: the request's `mm_processor_kwargs`; its entries stand before those of the engine, and a whole recipe
            before all of them.

    Raises:
        ValueError: an unknown recipe, entry or value, one that cannot be served, or a request's own where the engine
            was not given `vtc`.
    """
    engine, own = getattr(hf_config, KEY, None), kwargs.get(KEY)
    if engine is None:
        if own is not None:
            raise ValueError(
                f"mm_processor_kwargs has {KEY!r}={own!r}, but the engine runs without it; start it with "
                f"""--hf-overrides '{{"{KEY}": {{"keep": 1.0}}}}'"""
            )
        return None
    engine, own = _checked(engine), _checked(own or {})
    whole = isinstance(own.get("recipe"), Mapping)  # with a keep and a seed of its own
    return _made(json.dumps({**({} if whole else engine), **own}, sort_keys=True))


def _checked(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f'{KEY}={given!r}; expected an object such as {{"recipe": "kcenter", "keep": 0.25}}')
    unknown = sorted(set(given) - set(ENTRIES))
    if unknown:
        raise ValueError(f"{KEY} has unknown entries {unknown}; expected some of {list(ENTRIES)}")
    return given


@lru_cache(maxsize=256)
def _made(text: str) -> Recipe:
    """The recipe of settings as JSON; a request costs one look-up."""
    given = json.loads(text)
    spec = given.pop("recipe", DEFAULT)
    if given.get("keep") == 1 and not isinstance(given["keep"], bool):
        given["keep"] = 1.0  # many languages write 1.0 as 1 in JSON; nobody asks for one token
    try:
        named = from_request(spec)
        why = unservable(named)
        found = named if why else recipe(named, **given)
    except TypeError as error:  # a value of another type, which vLLM would answer with 500
        raise ValueError(str(error)) from None
    why = why or unservable(found)
    if why:
        raise ValueError(f"recipe {found.name!r} cannot be served by vLLM: {why}")
    check_runs(found)
    return found


def unservable(recipe: Recipe) -> str | None:
    """Return why vLLM cannot serve `recipe`, whatever the model; None if it can."""
    if why := why_unservable(recipe):
        return why
    if any(stage.refusal for stage in recipe.stages):
        return next(stage.refusal for stage in recipe.stages if stage.refusal)
    if recipe.images_as != "items":
        return "images_as='frames' joins images, and each is an item of its own there; use images_as='items'"
    return None


def without_ours(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """`kwargs` as a processor of transformers knows them."""
    return {name: value for name, value in kwargs.items() if name not in (KEY, NUMBER)}


def packed(recipe: Recipe) -> Tensor:
    """A recipe as a field of an item, uint8. Equal recipes are equal tensors, so that vLLM batches items by recipe."""
    return torch.frombuffer(bytearray(_text(recipe).encode()), dtype=torch.uint8)


def unpacked(field: Tensor) -> Recipe:
    """The recipe that `packed` was given."""
    return _read(bytes(field.cpu().flatten().tolist()))


@lru_cache(maxsize=256)
def _read(text: bytes) -> Recipe:
    return Recipe.from_dict(json.loads(text))


def fingerprint(recipe: Recipe) -> str:
    """16 hex digits that stand for a recipe in the keys of caches."""
    return hashlib.sha256(_text(recipe).encode()).hexdigest()[:16]


def _text(recipe: Recipe) -> str:
    return json.dumps(recipe.to_dict(), sort_keys=True)
