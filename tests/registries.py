"""Registries as they were, behind what a test registers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vtc.adapters import ADAPTERS
from vtc.recipes import RECIPES
from vtc.stages import STAGES


@contextmanager
def put_back() -> Iterator[None]:
    """For a block: what it registers is known in it alone."""
    registries = (STAGES, RECIPES, ADAPTERS)
    for registry in registries:
        list(registry)  # plug-ins are loaded once
    before = [(dict(registry._entries), dict(registry._aliases)) for registry in registries]
    try:
        yield
    finally:
        for registry, (entries, aliases) in zip(registries, before, strict=True):
            registry._entries, registry._aliases = entries, aliases
