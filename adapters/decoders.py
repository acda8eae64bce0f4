"""The language model inside of a model."""

from __future__ import annotations

from typing import Any


def decoder_of(model: Any) -> Any:
    """The module with the decoder layers of a vision-language model.

    It is `get_decoder()`, or what that one wraps: Llama 4 answers a language model with a head, whose `model` it is.
    """
    found = model.get_decoder()
    inner = getattr(found, "model", None)
    return inner if not hasattr(found, "layers") and hasattr(inner, "layers") else found
