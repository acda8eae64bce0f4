"""Which recipes an engine can serve that writes a prompt before its encoder runs, and for several questions at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vtc.core.tokens import QUESTION

from .composition import Recipe

FOREIGN = ("timm:", "clip:")
"""How values begin that name a model to load, from the hub or from a folder."""


def why_unservable(recipe: Recipe) -> str | None:
    """Return why no such engine can serve `recipe`, whatever the model; None if it can."""
    if recipe.adaptive:
        return "its count depends on content, and placeholders are written before the encoder runs"
    if recipe.decoder:
        return "its stages cut inside the language model, whose paged cache holds one length for all layers"
    if recipe.encoder is not None:
        return "its stages act inside a vision tower, which vLLM builds its own way"
    if QUESTION in recipe.cues:
        return "it reads the question, and an encoding is shared by all questions about it"
    if recipe.positions != "original":
        return "positions='compact' is what models without M-RoPE have there anyway, and no others; leave it out"
    return None


def models_named(value: Any) -> Iterator[str]:
    """The models that a recipe file would have loaded, wherever in it they stand."""
    if isinstance(value, str):
        if value.startswith(FOREIGN):
            yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from models_named(part)
