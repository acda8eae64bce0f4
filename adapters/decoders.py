"""The language model inside of a model."""

from __future__ import annotations

from typing import Any

from vtc.core.flops import STATES

CACHE_NAMES = ("cache", "past_key_values")
"""The argument that takes the key-value cache: since transformers 5.24, and before."""


def decoder_of(model: Any) -> Any:
    """The module with the decoder layers of a vision-language model.

    It is `get_decoder()`, or what that one wraps: Llama 4 answers a language model with a head, whose `model` it is.
    """
    found = model.get_decoder()
    inner = getattr(found, "model", None)
    return inner if not hasattr(found, "layers") and hasattr(inner, "layers") else found


def has_states(decoder: Any) -> bool:
    """Return whether some layers of a decoder keep a state, out of which no token can be taken once it was read."""
    return not STATES.isdisjoint(getattr(decoder.config, "layer_types", None) or ())


def window_of(decoder: Any) -> int | None:
    """Return how many tokens back the narrowest layers of a decoder see; None where all see every token.

    Sliding windows and chunks of attention are counted in columns of the prompt that the decoder is given.
    """
    config = decoder.config
    kinds = set(getattr(config, "layer_types", None) or ())
    sizes = {
        "sliding_attention": getattr(config, "sliding_window", None),
        "chunked_attention": getattr(config, "attention_chunk_size", None),
    }
    if not kinds and getattr(config, "use_sliding_window", True):  # one window for all layers, as in Mistral
        kinds = {"sliding_attention"}
    found = [size for kind, size in sizes.items() if kind in kinds and isinstance(size, int)]
    return min(found, default=None)
