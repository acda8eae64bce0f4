"""Hooks on the layers of a decoder: tokens leave before a layer, and at the end everything has its length again.

Nothing of a model's `forward` is copied. What a call needs travels through its own arguments (`step.STEP`), what a
cache needs stands in its layers (`cache.KeptPositions`), so that nothing is kept between calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vtc.adapters.decoders import has_states
from vtc.core.flops import STATES
from vtc.reduction.cache_metadata import cache_among
from vtc.reduction.guarded_cache import claim, release
from vtc.stages.decoder import Cut, DecoderStage

from .apply_cut import cut_before
from .attention_capture import AttentionCapture, probe
from .mask import remapped
from .prefill_state import STEP, PrefillState, gathered
from .sparse_cache import (
    KeptPositions,
    check_room,
    filled,
    is_quantised,
    keys_seen,
    plain,
    shortened,
)

SERVED = frozenset({"full_attention"})
"""Kinds of layers whose every query may see every token; transformers gains others, so none is taken on trust."""


@dataclass(frozen=True)
class PlannedCut:
    """A cut and the stage that makes it."""

    cut: Cut
    stage: DecoderStage


def planned_cuts(stages: Sequence[DecoderStage], depth: int) -> dict[int, PlannedCut]:
    """The cuts of all stages, by layer, for a decoder of `depth` layers.

    Raises:
        ValueError: two stages cut at one layer, keeps that grow, or a stage that reads the layer before the first.
    """
    found: dict[int, PlannedCut] = {}
    for stage in stages:
        for cut in stage.cuts(depth):
            if cut.layer in found:
                names = sorted((found[cut.layer].stage.name, stage.name))
                raise ValueError(f"stages {names} both cut at layer {cut.layer}; give them layers of their own")
            if cut.layer == 0 and stage.reads is not None and stage.reads.source == "previous":
                raise ValueError(
                    f"{stage.name}: schedule={stage.schedule} cuts at layer 0, and the stage scores by the attention "
                    "of the layer before; start at layer 1 or later"
                )
            found[cut.layer] = PlannedCut(cut, stage)
    ordered = dict(sorted(found.items()))
    keeps = [entry.cut.keep for entry in ordered.values()]
    for before, after in pairwise(keeps):
        if type(before) is type(after) and after > before:
            raise ValueError(f"stages keep {keeps} at layers {list(ordered)}; tokens that left do not come back")
    return ordered


def check_decoder(decoder: Any, stages: Sequence[DecoderStage]) -> None:
    """Raise ValueError where a decoder has layers before which no token can leave, as `stages` would have it."""
    config = decoder.config
    kinds = set(getattr(config, "layer_types", None) or ())
    windows = [getattr(getattr(layer, "self_attn", None), "sliding_window", None) for layer in decoder.layers]
    if not kinds and getattr(config, "use_sliding_window", True):  # one window for all layers, as in Mistral
        windows.append(getattr(config, "sliding_window", None))
    bad = sorted(kinds - SERVED) or (["sliding_attention"] if any(windows) else [])
    if bad:
        names = [stage.label for stage in stages]
        why = "do not see every token"
        if has_states(decoder):
            bad = sorted(STATES.intersection(bad))
            why = "keep one recurrent state and no keys by token, so that what leaves cannot be masked"
        raise ValueError(
            f"stages={names} drop tokens inside the language model, and {type(decoder).__name__} has layers of kind "
            f"{bad}, which {why}: it would not be exact; use stages before the language model, such as 'kcenter'"
        )
    check_attention(decoder)
    if not all(hasattr(layer, "self_attn") and hasattr(layer, "input_layernorm") for layer in decoder.layers):
        raise ValueError(
            f"{type(decoder).__name__} has layers of an unknown make; use stages before the language model"
        )


def check_attention(decoder: Any) -> None:
    """Raise ValueError where the attention implementation, which may change at any time, takes no ordinary masks."""
    implementation = str(getattr(decoder.config, "_attn_implementation", ""))
    if "flex" in implementation or "paged" in implementation:
        raise ValueError(
            f"attn_implementation={implementation!r} takes masks that cannot be shortened; load the model with 'sdpa', "
            "'eager' or 'flash_attention_2', or call model.set_attn_implementation"
        )


class Engine:
    """The decoder stages at work on one decoder."""

    def __init__(self, decoder: Any, stages: Sequence[DecoderStage]) -> None:
        self._decoder = decoder
        self._layers: list[Any] = list(decoder.layers)
        self.planned_cuts = planned_cuts(stages, len(self._layers))
        reads = [(entry.cut.layer, entry.stage.reads) for entry in self.planned_cuts.values()]
        self._tapped = {layer - (r.source == "previous") for layer, r in reads if r is not None}
        self._entry = any(r is not None and r.entry for _, r in reads)
        self._hooks: list[Any] = []

    def attach(self) -> None:
        """Install the hooks. Nothing stays behind if that fails."""
        check_decoder(self._decoder, [entry.stage for entry in self.planned_cuts.values()])
        try:
            self._hooks.append(self._decoder.register_forward_pre_hook(_take_planes, with_kwargs=True))
            self._hooks += [AttentionCapture(self._layers[layer].self_attn) for layer in sorted(self._tapped)]
            for i, layer in enumerate(self._layers):
                self._hooks.append(layer.register_forward_pre_hook(partial(self._before, i), with_kwargs=True))
            self._hooks.append(self._decoder.register_forward_hook(_release, with_kwargs=True, always_call=True))
            self._hooks.append(self._layers[-1].register_forward_hook(_lengthen, with_kwargs=True))
        except Exception:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove every hook."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _before(self, i: int, layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """The hook at the entry of layer `i`."""
        step: PrefillState | None = kwargs.get(STEP)
        states = args[0] if args else kwargs["hidden_states"]
        if i == 0:
            check_room(cache_among(kwargs), states.shape[1])
            claim(cache_among(kwargs))
        if step is None:
            self._resume(i, None, states, kwargs)
            return None
        if i not in self._tapped and i < len(self._layers) - 1:
            del kwargs[STEP]  # a kernel need not know what to do with it
        states = self._advance(i, step, states, kwargs)
        if args:
            return (states, *args[1:]), kwargs
        kwargs["hidden_states"] = states
        return None

    def _advance(self, i: int, step: PrefillState, states: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """The states that enter layer `i`, and its arguments made to fit them."""
        if 0 < i <= len(step.planes):
            states = states + gathered(step.planes[i - 1].to(states), step.columns(states.device))
        if i == 0:
            self._check_readable(step, cache_among(kwargs))
            step.entered = states if self._entry else None
        entry, cache, angles = self.planned_cuts.get(i), cache_among(kwargs), kwargs.get("position_embeddings")
        if i in self._tapped:
            step.angles[i] = angles
        if entry is not None:
            if entry.stage.reads is not None and entry.stage.reads.source == "own":
                step.angles[i] = angles
                with torch.no_grad():
                    probe(self._layers[i], states, step, kwargs.get("position_ids"), i, cache)
            states = cut_before(step, states, entry.stage, entry.cut)
        if step.remaining is not None:
            kwargs.update(_by_token(step, kwargs))
            kwargs["position_embeddings"] = step.rotary(angles, states.device)
            kwargs["position_ids"] = step.remaining_position_ids(kwargs.get("position_ids"))
            kwargs["attention_mask"] = self._fitted(i, step, states, kwargs.get("attention_mask"), cache)
        elif step.offset:
            self._resume(i, step, states, kwargs)
        return states

    def _check_readable(self, step: PrefillState, cache: Any) -> None:
        """Refuse a cache whose keys a stage would have to read, and that does not hold them as they are."""
        for i, entry in self.planned_cuts.items() if step.offset and cache is not None else ():
            reads, cache_layer = entry.stage.reads, cache.layers[i] if i < len(cache.layers) else None
            if reads is not None and reads.source == "own" and is_quantised(cache_layer):
                raise ValueError(
                    f"stage {entry.stage.name!r} reads the keys that the cache holds of earlier turns, and its layer "
                    f"{i} is a {type(cache_layer).__name__}, which holds them quantised; use a DynamicCache, or a "
                    "stage such as 'fastv'"
                )

    def _fitted(self, i: int, step: PrefillState, states: Tensor, mask: Tensor | None, cache: Any) -> Tensor | None:
        """The mask of layer `i` for what is left; the layer of the cache is told which positions it gets."""
        remaining, slots, start = step.columns(states.device), step.kept_slots(states.device), 0
        if cache is not None:
            cache_layer = shortened(cache, i)
            keys = keys_seen(cache_layer, remaining.shape[1])
            if step.offset:
                start = filled(cache_layer)
                before = (
                    plain(len(remaining), start, remaining.device)
                    if cache_layer.slots is None
                    else cache_layer.slots.grown(start)
                )
                slots = before.joined(slots.position + step.offset, slots.valid, step.offset + slots.end)
            cache_layer.slots = slots
            slots = slots.grown(keys)
        if i in self._tapped:
            step.key_slots[i] = slots, start
        if step.offset:
            return self._remapped(mask, slots, remaining, remaining + step.offset, states)
        keys = slots.position.shape[1]
        if keys not in step.masks:
            step.masks[keys] = self._remapped(mask, slots, remaining, remaining, states)
        return step.masks[keys]

    def _remapped(
        self, mask: Any, slots: KeptPositions, rows: Tensor | None, queries: Tensor, states: Tensor
    ) -> Tensor | None:
        implementation = str(self._decoder.config._attn_implementation)
        return remapped(mask, slots, rows, queries, implementation, states.dtype)

    def _resume(self, i: int, step: PrefillState | None, states: Tensor, kwargs: dict[str, Any]) -> None:
        """Make the mask of a call of which nothing left so far fit what layer `i` of its cache holds.

        Such a cache may come from another recipe, so no layer is passed over.
        """
        cache = cache_among(kwargs)
        if cache is None or len(cache.layers) <= i:
            return
        cache_layer, mask = cache.layers[i], kwargs.get("attention_mask")
        slots: KeptPositions | None = getattr(cache_layer, "slots", None)
        if slots is None:
            return
        new = states.shape[1]
        if step is not None and i in self._tapped:
            step.key_slots[i] = slots.grown(keys_seen(cache_layer, new)), filled(cache_layer)
        if mask is None and slots.valid is None:
            return
        known, key = _masks_beside(mask), (id(slots), keys_seen(cache_layer, new))
        if key not in known:
            queries = slots.position.new_zeros(0)
            if mask is None:
                queries = (torch.arange(new, device=states.device) + cache_layer.get_seq_length()).expand(
                    len(states), -1
                )
            known[key] = slots, self._remapped(mask, slots.grown(key[1]), None, queries, states)
        kwargs["attention_mask"] = known[key][1]


def _by_token(step: PrefillState, kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """Return the further arguments of a layer that hold something for each token, such as the experts it goes to."""
    names = [name for name in kwargs if name not in ("hidden_states", "attention_mask", "position_ids")]
    found = {name: value for name in names if isinstance(value := kwargs[name], Tensor) and value.ndim in (2, 3)}
    return {
        name: gathered(value[..., None] if value.ndim == 2 else value, step.columns(value.device)).view(
            *step.columns(value.device).shape, *value.shape[2:]
        )
        for name, value in found.items()
        if value.shape[:2] == (step.rows, step.length)
    }


def _masks_beside(mask: Tensor | None) -> dict[tuple[int, int], tuple[KeptPositions, Tensor | None]]:
    """Masks made of `mask`, which all layers of a call are given; they are kept on it and go when it goes.

    By the id of the slots and the number of keys. Beside each mask are its slots, so that no others take that id.
    """
    if mask is None or torch.compiler.is_compiling():
        return {}
    known: dict[tuple[int, int], tuple[KeptPositions, Tensor | None]] | None = getattr(mask, "_vtc_masks", None)
    if known is None:
        known = {}
        mask._vtc_masks = known  # type: ignore[attr-defined]
    return known


def _take_planes(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    """Take over the planes that the decoder would add to states of full length."""
    step, planes = kwargs.get(STEP), kwargs.get("deepstack_visual_embeds")
    if step is not None and planes:
        shown = kwargs["visual_pos_masks"]
        step.planes = [_dense(shown.to(plane.device), plane) for plane in planes]
        kwargs["deepstack_visual_embeds"] = None


def _dense(shown: Tensor, plane: Tensor) -> Tensor:
    return plane.new_zeros(*shown.shape, plane.shape[-1]).masked_scatter(shown[..., None], plane)


def _release(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
    """Behind the last layer, and where one failed, the cache may be read by whoever comes next."""
    release(cache_among(kwargs))


def _lengthen(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    """Return the last layer's states the length that the call had: a token that left repeats the one before it."""
    step: PrefillState | None = kwargs.get(STEP)
    if step is None or step.remaining is None:
        return None
    states = output[0] if isinstance(output, tuple) else output
    whole = gathered(states, step.slots(states.device))
    return (whole, *output[1:]) if isinstance(output, tuple) else whole
