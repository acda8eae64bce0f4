"""Recipes that come with requests: from people who may not read files of a server, nor have it load models."""

from __future__ import annotations

from typing import Any

from vtc.recipes.composition import Recipe
from vtc.recipes.named import by_name
from vtc.recipes.servable import models_named

NAME = 100
"""Characters of a recipe's name, which goes into headers and errors."""


def from_request(spec: Any) -> Recipe:
    """The recipe that a request names, or holds as a recipe file does. No path is one.

    Raises:
        TypeError: it is neither a text nor an object.
        ValueError: an unknown name, an object that is no recipe, or one that would load another model.
    """
    if isinstance(spec, str):
        return by_name(spec)
    if not isinstance(spec, dict):
        raise TypeError(f"recipe={spec!r}; expected a name from `vtc recipes`, or the object of a recipe file")
    return _from_dict(spec)


def _from_dict(data: dict[str, Any]) -> Recipe:
    """The recipe that a request holds; it may not have the server load further models."""
    for text in models_named(data):
        raise ValueError(f"recipe holds {text!r}; a request names no other model: the server would load it")
    found = Recipe.from_dict(data)
    if not isinstance(found.name, str) or len(found.name) > NAME:
        raise ValueError(f"recipe has a name that is no text of at most {NAME} characters; shorten it")
    return found
