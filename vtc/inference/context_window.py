"""How many tokens a model can take, by its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STRETCHED = ("yarn", "dynamic", "linear", "longrope")
"""Kinds of rotary embeddings that reach further than the model was first trained for, by a factor."""


def context_of(model: Any) -> int | None:
    """Tokens of a prompt and its answer at most; None where the configuration does not say."""
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(longest, bool) or not isinstance(longest, int) or longest < 1:
        return None
    return _stretched(longest, rotary(model))


def rotary(model: Any) -> Mapping[str, Any]:
    """Return the configuration of rotary embeddings, under either of its names."""
    text = model.config.get_text_config()
    found = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None)
    return found if isinstance(found, Mapping) else {}


def _stretched(longest: int, rope: Mapping[str, Any]) -> int:
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if kind not in _STRETCHED or not isinstance(factor, (int, float)) or not factor > 1:
        return longest
    first = rope.get("original_max_position_embeddings") or longest
    return max(longest, int(first * factor))
