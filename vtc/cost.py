"""What a language model's prefill costs, by arithmetic from its shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WITHOUT_KEYS = frozenset({"linear_attention", "conv", "mamba", "mlp", "moe"})
"""Kinds of layers, in a config's `layer_types`, that compare no pairs of tokens and cache nothing per token."""


@dataclass(frozen=True)
class DecoderCost:
    """Costs of one prompt, as functions of its length.

    Attributes:
        linear_flops: FLOPs of all linear maps of the decoder layers, per token.
        attention_flops: FLOPs of the two attention products of all layers that have them, per pair of tokens.
        kv_bytes: bytes of keys and values that all layers cache, per token; layers that share another's have none.
            A layer with a sliding window caches no more than its window: beyond that these are an upper bound.
    """

    linear_flops: int
    attention_flops: int
    kv_bytes: int

    @classmethod
    def of(cls, decoder: Any, element_size: int) -> DecoderCost:
        """The costs of `decoder`, a text model with `layers` and a `config`.

        A mixture of experts is counted with all of its experts. Linear attention is counted by its linear maps, not by
        its state, whose cost per token is small. Cached elements take `element_size` bytes.
        """
        config = decoder.config
        heads = int(config.num_attention_heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * int(config.num_hidden_layers)
        layers = sum(kind not in WITHOUT_KEYS for kind in kinds)
        keyed = layers - int(getattr(config, "num_kv_shared_layers", None) or 0)
        shaped = [m for m in decoder.layers.modules() if hasattr(m, "in_features") and hasattr(m, "out_features")]
        # A wrapper such as LoRA's repeats the shape of what it wraps: only the innermost maps count.
        linear = [m for m in shaped if not any(hasattr(part, "in_features") for part in list(m.modules())[1:])]
        return cls(
            linear_flops=sum(2 * int(m.in_features) * int(m.out_features) for m in linear),
            attention_flops=4 * layers * heads * head_dim,
            kv_bytes=2 * keyed * kv_heads * head_dim * element_size,
        )

    def prefill_flops(self, tokens: int) -> int:
        """FLOPs of the decoder layers over a prompt of `tokens`, each pair of positions counted, masked or not."""
        return self.linear_flops * tokens + self.attention_flops * tokens * tokens
