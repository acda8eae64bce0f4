"""Cost of a language model's prefill, by arithmetic from its shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

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

        Of a mixture of experts those are counted that a token goes to (ERNIE has two, for text and for images, of which
        each token meets one: both are). Linear attention is counted by its linear maps,
        not by its state, which is small for each token. Cached elements take `element_size` bytes.
        """
        config = decoder.config
        window = int(getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None) or 0)
        default = "sliding_attention" if window else "full_attention"  # as the stock cache has it
        kinds = getattr(config, "layer_types", None) or [default] * int(config.num_hidden_layers)
        # Layers may read the keys of earlier ones.
        modes = getattr(config, "kv_sharing_modes", None) or [None] * len(kinds)
        shapes = [_shape(decoder, i) for i in range(len(kinds))]
        keyed = [
            (kind in WINDOWED and window > 0, mode != "reuse", shape)
            for kind, mode, shape in zip(kinds, modes, shapes, strict=True)
            if kind not in WITHOUT_KEYS
        ]
        cached = {way: sum(s.cached for w, own, s in keyed if own and w is way) for way in (True, False)}
        return cls(
            linear_flops=_linear_flops(decoder.layers) + _expert_flops(decoder.layers, config),
            attention_flops=2 * sum(s.heads * (s.key_dim + s.value_dim) for *_, s in keyed),
            kv_bytes=element_size * cached[False],
            windowed_bytes=element_size * cached[True],
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


@dataclass(frozen=True)
class _Shape:
    """The attention of a layer: query heads, key heads, and the dimensions of a key and of a value."""

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int

    @property
    def cached(self) -> int:
        """Elements that are cached per token."""
        return self.kv_heads * (self.key_dim + self.value_dim)


def _shape(decoder: Any, i: int) -> _Shape:
    """The shape of layer `i`: that of its attention, or else of the config.

    Layers may differ (Gemma 4, dots.note), and their config then answers no one number for all. Latent attention
    (DeepSeek's, as transformers caches it: unpacked) has keys and values of unlike dimensions.
    """
    config = decoder.config
    if getattr(config, "is_heterogeneous", False):
        config = config.per_layer_config[i]
    attention = getattr(decoder.layers[min(i, len(decoder.layers) - 1)], "self_attn", None)
    heads = int(config.num_attention_heads)
    head_dim, groups = (getattr(attention, name, None) for name in ("head_dim", "num_key_value_groups"))
    if not isinstance(head_dim, int) or not isinstance(groups, int):
        head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        groups = heads // int(getattr(config, "num_key_value_heads", None) or heads)
    key_dim, value_dim = (getattr(attention, name, None) for name in ("qk_head_dim", "v_head_dim"))
    if isinstance(key_dim, int) and isinstance(value_dim, int):
        return _Shape(heads, heads // groups, key_dim, value_dim)
    return _Shape(heads, heads // groups, head_dim, head_dim)


def _linear_flops(layers: nn.Module) -> int:
    """FLOPs per token of the linear maps of `layers`, routers of experts among them, without the experts."""
    experts = {id(inner) for m in layers.modules() if _experts(m) for inner in m.modules()}
    shaped: list[Any] = [m for m in layers.modules() if hasattr(m, "in_features") and hasattr(m, "out_features")]
    # A wrapper such as LoRA's repeats the shape of what it wraps: only the innermost maps count.
    inside = {id(m): set(map(id, m.modules())) - {id(m)} for m in shaped}
    linear = [m for m in shaped if inside[id(m)].isdisjoint(inside) and id(m) not in experts]
    routers: list[Any] = [getattr(m, "weight", None) for m in layers.modules() if hasattr(m, "top_k")]
    sizes = [int(m.in_features) * int(m.out_features) for m in linear]
    return 2 * (sum(sizes) + sum(weight.numel() for weight in routers if _matrix(weight)))


def _expert_flops(layers: nn.Module, config: Any) -> int:
    """FLOPs per token of the experts that a token goes to, each of `top_k` of them."""
    total = 0
    for block in layers.modules():
        for experts in filter(_experts, block.children()):
            found = (getattr(module, "top_k", None) for module in block.modules())
            taken = next((k for k in found if isinstance(k, int)), getattr(config, "num_experts_per_tok", None) or 1)
            total += sum(2 * taken * w[0].numel() for w in experts.parameters() if w.ndim == 3)
    return total


def _experts(module: nn.Module) -> bool:
    """Return whether a module holds the weights of several experts, `[experts, ...]` each."""
    return any(weight.ndim == 3 for weight in module.parameters(recurse=False)) and not isinstance(module, nn.Conv1d)


def _matrix(weight: Any) -> bool:
    return isinstance(weight, nn.Parameter) and weight.ndim == 2
