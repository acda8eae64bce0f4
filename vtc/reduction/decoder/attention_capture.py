"""Captures queries and keys of one layer where its attention is computed, whatever kernel computes it.

Queries and keys after rotary embedding are local variables of the attention's forward, which is not copied here. But
every attention module calls the function that its configuration names, with just these tensors: so importing this
module registers one function in `ALL_ATTENTION_FUNCTIONS`, which is process-wide state, and a captured module gets a
configuration of its own that names it. No other model is affected, since none names it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .prefill_state import STEP, PrefillState
from .sparse_cache import (
    KeptPositions,
    filled,
    is_shortened,
    plain,
)

NAME = "vtc_tap"
_PROBE = "vtc_probe"


@dataclass(frozen=True)
class CapturedQK:
    """Queries and keys of a layer.

    Attributes:
        query: `[B, H, n, d]`, of the remaining columns of the call.
        key: `[B, G, S, d]`, in the order of `slots`.
        slots: the logical positions of the keys.
        start: the first key of this call.
        scaling: what products are multiplied with.
        mask: the layer's own, of these queries and keys; None where it took none, or was not run.
    """

    query: Tensor
    key: Tensor
    slots: KeptPositions
    start: int
    scaling: float
    mask: Tensor | None = None


class AttentionCapture:
    """Captures one attention module: its configuration is swapped for a copy that names our attention function.

    A copy, since all layers share one configuration object and only some are captured. The function hands the work to
    the kernel that the model's own configuration names, read at each call, so that `set_attn_implementation` holds.
    """

    def __init__(self, attention: Any) -> None:
        self._attention = attention
        self._stock = attention.config
        listening = copy.copy(self._stock)
        listening._attn_implementation = NAME
        listening.vtc_stock = self._stock
        self._attention.config = listening

    def remove(self) -> None:
        """Put the module's own configuration back."""
        self._attention.config = self._stock


def probe(layer: Any, states: Tensor, step: PrefillState, ids: Tensor | None, index: int, cache: Any) -> None:
    """Compute queries and keys of `layer` for `states` as they enter it, without side effects.

    The layer's own attention runs without a cache, and its attention function returns zeros: only the projections cost.

    `ids` are the position ids of all columns of the call, which some attention scales its queries by.
    """
    cache_layer = cache.layers[index] if cache is not None and len(cache.layers) > index else None
    layer.self_attn(
        hidden_states=layer.input_layernorm(states),
        position_embeddings=step.rotary(step.angles[index], states.device),
        attention_mask=None,
        position_ids=step.remaining_position_ids(ids),
        **{STEP: step, _PROBE: cache_layer},
    )


def tapped(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention function of a captured layer: records queries and keys, then calls the stock kernel."""
    step, probing = kwargs.pop(STEP, None), _PROBE in kwargs
    cache_layer = kwargs.pop(_PROBE, None)
    factor = float(scaling if scaling is not None else query.shape[-1] ** -0.5)
    if step is not None and probing:
        past = cache_layer.keys[:, :, : _filled(cache_layer)].to(key.device) if step.offset else key[:, :, :0]
        slots = _past(cache_layer, step, key)
        step.captured[module.layer_idx] = CapturedQK(query, torch.cat([past, key], dim=2), slots, past.shape[2], factor)
    elif step is not None:
        step.captured[module.layer_idx] = CapturedQK(
            query, key, *_present(step, module.layer_idx, key), factor, attention_mask
        )
    if probing:
        return query.new_zeros(query.shape).transpose(1, 2), None
    return stock_attention(module)(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


def _filled(cache_layer: Any) -> int:
    return filled(cache_layer) if is_shortened(cache_layer) else int(cache_layer.get_seq_length())


def _past(cache_layer: Any, step: PrefillState, key: Tensor) -> KeptPositions:
    """Return the slots of a layer that has not run yet: those in its cache, then the remaining ones of this call."""
    before = plain(len(key), step.offset, key.device)
    if step.offset and is_shortened(cache_layer) and cache_layer.slots is not None:
        before = cache_layer.slots.grown(_filled(cache_layer))
    return before.joined(step.columns(key.device) + step.offset, step.valid, step.offset + step.length)


def _present(step: PrefillState, layer: int, key: Tensor) -> tuple[KeptPositions, int]:
    """Return the slots of a layer that runs, those of this call among them, and where these start."""
    known: tuple[KeptPositions, int] | None = step.key_slots.get(layer)
    return known if known is not None else (plain(len(key), key.shape[2], key.device), step.offset)


def stock_attention(module: Any) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """Return the kernel that the captured module's own configuration names."""
    # A module that defines no eager attention has its kernel in the registry, or fails there with its name.
    eager: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    name = module.config.vtc_stock._attn_implementation
    if eager is None and name not in ALL_ATTENTION_FUNCTIONS:
        raise ValueError(
            f"attn_implementation={name!r}: {type(module).__name__} has no kernel of that name to listen to; load "
            "the model with 'sdpa', or use a stage that reads no attention, such as 'layerwise'"
        )
    kernel: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)
    return kernel


ALL_ATTENTION_FUNCTIONS.register(NAME, tapped)
