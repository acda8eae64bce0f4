"""Cost of a language model's prefill, by arithmetic from its shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STATES = frozenset({"linear_attention", "conv", "mamba"})
"""Kinds of layers, in a config's `layer_types`, that keep a state of all they have read and no keys by token."""
WITHOUT_KEYS = STATES | {"mlp", "moe"}
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
        window = int(getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None) or 0)
        default = "sliding_attention" if window else "full_attention"  # as the stock cache has it
        kinds = getattr(config, "layer_types", None) or [default] * int(config.num_hidden_layers)
        # Layers may read the keys of earlier ones.
        modes = getattr(config, "kv_sharing_modes", None) or [None] * len(kinds)
        shapes = _shapes(decoder, heads, len(kinds))
        keyed = [
            (kind in WINDOWED and window > 0, mode != "reuse", kv_heads, head_dim)
            for kind, mode, (kv_heads, head_dim) in zip(kinds, modes, shapes, strict=True)
            if kind not in WITHOUT_KEYS
        ]
        cached = {way: sum(k * d for w, own, k, d in keyed if own and w is way) for way in (True, False)}
        shaped = [m for m in decoder.layers.modules() if hasattr(m, "in_features") and hasattr(m, "out_features")]
        # A wrapper such as LoRA's repeats the shape of what it wraps: only the innermost maps count.
        inside = {id(m): set(map(id, m.modules())) - {id(m)} for m in shaped}
        linear = [m for m in shaped if inside[id(m)].isdisjoint(inside)]
        return cls(
            linear_flops=sum(2 * int(m.in_features) * int(m.out_features) for m in linear),
            attention_flops=4 * heads * sum(head_dim for *_, head_dim in keyed),
            kv_bytes=2 * element_size * cached[False],
            windowed_bytes=2 * element_size * cached[True],
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


def _shapes(decoder: Any, heads: int, layers: int) -> list[tuple[int, int]]:
    """Heads of keys, and dimensions of a head, of each layer: those of its attention, or else of the config.

    Layers may differ (Gemma 4), and their config then answers no one number for all.
    """
    found = []
    for i in range(layers):
        attention = getattr(decoder.layers[min(i, len(decoder.layers) - 1)], "self_attn", None)
        head_dim, groups = (getattr(attention, name, None) for name in ("head_dim", "num_key_value_groups"))
        if not isinstance(head_dim, int) or not isinstance(groups, int):
            config = decoder.config
            head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
            groups = heads // int(getattr(config, "num_key_value_heads", None) or heads)
        found.append((heads // groups, head_dim))
    return found
