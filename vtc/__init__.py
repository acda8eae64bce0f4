"""vtc: vision-language models that answer from a fraction of their visual tokens."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget import Budget
    from .recipes import Recipe, named_recipes
    from .report import Report
    from .tokens import Layout, Reduction, VisualTokens
    from .wrap import reduce_tokens, reduced, restore

__version__ = "0.1.0"

_HOME = {
    "Budget": "budget",
    "Layout": "tokens",
    "Recipe": "recipes",
    "Reduction": "tokens",
    "Report": "report",
    "VisualTokens": "tokens",
    "named_recipes": "recipes",
    "reduce_tokens": "wrap",
    "reduced": "wrap",
    "restore": "wrap",
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


def __getattr__(name: str) -> Any:
    # Lazy, so that a child process that only reads videos loads neither torch models nor transformers.
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'vtc' has no attribute {name!r}")
