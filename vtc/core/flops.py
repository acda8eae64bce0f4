"""Cost of a language model's prefill, by arithmetic from its shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WITHOUT_KEYS = frozenset({"linear_attention", "conv", "mamba", "mlp", "moe"})
"""Kinds of layers, in a config's `layer_types`, that compare no pairs of tokens and cache nothing per token."""
WINDOWED = frozenset({"sliding_attention", "chunked_attention"})
"""Kinds of layers that cache no more than their window."""


@dataclass(frozen=True)
class DecoderCost:
    """Costs of one prompt, as functions of its length.

    Attributes:
        linear_flops: FLOPs of all linear maps of the decoder layers, per token.
        attention_flops: FLOPs of the two attention products of all layers that have them, per pair of tokens.
        kv_bytes: bytes of keys and values that the layers without a window cache, per token.
        windowed_bytes: the same of the layers with one.
        window: how many tokens these cache at most.
    """

    linear_flops: int
    attention_flops: int
    kv_bytes: int
    windowed_bytes: int = 0
    window: int = 0

    @classmethod
    def of(cls, decoder: Any, element_size: int) -> DecoderCost:
        """The costs of `decoder`, a text model with `layers` and a `config`.

        A mixture of experts is counted with all of its experts. Linear attention is counted by its linear maps, not by
        its state, which is small for each token. Cached elements take `element_size` bytes.
        """
        config = decoder.config
        heads = int(config.num_attention_heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        window = int(getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None) or 0)
        default = "sliding_attention" if window else "full_attention"  # as the stock cache has it
        kinds = getattr(config, "layer_types", None) or [default] * int(config.num_hidden_layers)
        # Layers may read the keys of earlier ones.
        modes = getattr(config, "kv_sharing_modes", None) or [None] * len(kinds)
        own = [kind for kind, mode in zip(kinds, modes, strict=True) if mode != "reuse"]
        windowed = sum(kind in WINDOWED for kind in own) if window else 0
        layer_bytes = 2 * kv_heads * head_dim * element_size
        shaped = [m for m in decoder.layers.modules() if hasattr(m, "in_features") and hasattr(m, "out_features")]
        # A wrapper such as LoRA's repeats the shape of what it wraps: only the innermost maps count.
        inside = {id(m): set(map(id, m.modules())) - {id(m)} for m in shaped}
        linear = [m for m in shaped if inside[id(m)].isdisjoint(inside)]
        return cls(
            linear_flops=sum(2 * int(m.in_features) * int(m.out_features) for m in linear),
            attention_flops=4 * sum(kind not in WITHOUT_KEYS for kind in kinds) * heads * head_dim,
            kv_bytes=(sum(kind not in WITHOUT_KEYS for kind in own) - windowed) * layer_bytes,
            windowed_bytes=windowed * layer_bytes,
            window=max(window - 1, 0),
        )

    def cached_bytes(self, tokens: int) -> int:
        """Bytes of keys and values that are cached of a prompt of `tokens`."""
        return self.kv_bytes * tokens + self.windowed_bytes * min(tokens, self.window)

    def prefill_flops(self, tokens: int) -> int:
        """FLOPs of the decoder layers over a prompt of `tokens`, each pair of positions counted, masked or not."""
        return self.linear_flops * tokens + self.attention_flops * tokens * tokens

    def turn_flops(self, tokens: int, past: int) -> int:
        """FLOPs of the decoder layers over `tokens` that follow `past` cached ones, each pair counted likewise."""
        return self.prefill_flops(tokens) + self.attention_flops * tokens * past
