"""vtc: vision-language models that answer from a fraction of their visual tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .core.lazy import lazy

if TYPE_CHECKING:
    from .core.budget import Budget
    from .core.tokens import Layout, Reduction, VisualTokens
    from .recipes import Recipe, named_recipes
    from .reduction.api import reduce_tokens, reduced, restore
    from .reduction.report import Report

__version__ = "0.1.0"

_HOME = {
    "Budget": "core.budget",
    "Layout": "core.tokens",
    "Recipe": "recipes",
    "Reduction": "core.tokens",
    "Report": "reduction.report",
    "VisualTokens": "core.tokens",
    "named_recipes": "recipes",
    "reduce_tokens": "reduction.api",
    "reduced": "reduction.api",
    "restore": "reduction.api",
}

__all__ = [
    "Budget",
    "Layout",
    "Recipe",
    "Reduction",
    "Report",
    "VisualTokens",
    "__version__",
    "named_recipes",
    "reduce_tokens",
    "reduced",
    "restore",
]


__getattr__, __dir__ = lazy(__name__, _HOME)
