"""vtc: vision-language models that answer from a fraction of their visual tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .core.lazy import lazy

if TYPE_CHECKING:
    from .adapters import register_adapter
    from .core.budget import Budget
    from .core.tokens import Layout, Reduction, VisualTokens
    from .recipes import Recipe, named_recipes, recipe, register_recipe, register_stage
    from .reduction.api import handle, reduce_tokens, reduced, restore
    from .reduction.handle import Handle
    from .reduction.report import Report

__version__ = "0.1.0"

_HOME = {
    "Budget": "core.budget",
    "Handle": "reduction.handle",
    "Layout": "core.tokens",
    "Recipe": "recipes",
    "Reduction": "core.tokens",
    "Report": "reduction.report",
    "VisualTokens": "core.tokens",
    "handle": "reduction.api",
    "named_recipes": "recipes",
    "recipe": "recipes",
    "reduce_tokens": "reduction.api",
    "reduced": "reduction.api",
    "register_adapter": "adapters",
    "register_recipe": "recipes",
    "register_stage": "recipes",
    "restore": "reduction.api",
}

__all__ = [
    "Budget",
    "Handle",
    "Layout",
    "Recipe",
    "Reduction",
    "Report",
    "VisualTokens",
    "__version__",
    "handle",
    "named_recipes",
    "recipe",
    "reduce_tokens",
    "reduced",
    "register_adapter",
    "register_recipe",
    "register_stage",
    "restore",
]


__getattr__, __dir__ = lazy(__name__, _HOME)
