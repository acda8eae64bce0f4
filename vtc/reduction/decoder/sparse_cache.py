"""Cache layers that hold fewer tokens than their neighbours, and report the length that they would have in full.

Callers outside (masks, `generate`, beams, cropping) count logical positions: those of the sequence as it enters the
first layer. transformers asks one layer for the length and builds positions and masks for all of them from it, so
layers of different lengths must all answer alike. Which positions have a slot is known only here (`KeptPositions`).

State on the caller's objects: the class of a layer that is shortened is swapped for a subclass made on the fly, and the
layer gets the attribute `slots`. The objects stay the caller's own, so beams, copies and pickles go on working.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import cache_utils as stock_caches
from transformers.cache_utils import Cache, CacheLayerMixin, StaticLayer

from vtc.reduction.guarded_cache import PICKS, claim, guard


@dataclass(frozen=True)
class KeptPositions:
    """Logical positions of the first M slots of a cache layer; later slots follow without gaps.

    What comes after a prefill is never dropped, so `end` alone says where all later slots stand.

    Attributes:
        position: `[B, M]` int64.
        valid: `[B, M]` bool, or None where no slot is a filler.
        end: the logical position of slot M.
    """

    position: Tensor
    valid: Tensor | None
    end: int

    def grown(self, keys: int) -> KeptPositions:
        """Extend to `keys` slots."""
        more = keys - self.position.shape[1]
        tail = torch.arange(self.end, self.end + more, device=self.position.device)
        position = torch.cat([self.position, tail.expand(len(self.position), -1)], dim=1)
        valid = self.valid
        if valid is not None:
            valid = torch.cat([valid, valid.new_ones(len(valid), more)], dim=1)
        return KeptPositions(position, valid, self.end + more)

    def joined(self, position: Tensor, valid: Tensor | None, end: int) -> KeptPositions:
        """Concatenate with further slots."""
        both = None
        if self.valid is not None or valid is not None:
            parts = ((self.valid, self.position), (valid, position))
            both = torch.cat([torch.ones_like(p, dtype=torch.bool) if v is None else v for v, p in parts], dim=1)
        return KeptPositions(torch.cat([self.position, position], dim=1), both, end)

    def shortened(self, last: int) -> KeptPositions:
        """Drop the `last` slots, which must hold as many neighbouring positions, in every row.

        Raises:
            ValueError: tokens are missing there, so that it is not known how many slots the positions take.
        """
        ends = torch.arange(self.end - last, self.end, device=self.position.device)
        whole = last <= self.position.shape[1] and bool((self.position[:, -last:] == ends).all())
        if not whole or (self.valid is not None and not bool(self.valid[:, -last:].all())):
            raise ValueError(
                f"the cache cannot be cropped by {last} tokens of its prompt: visual tokens left there inside the "
                "language model; start the conversation again"
            )
        valid = None if self.valid is None else self.valid[:, :-last]
        return KeptPositions(self.position[:, :-last], valid, self.end - last)

    def rows(self, pick: Callable[[Tensor], Tensor]) -> KeptPositions:
        """Apply `pick`, a change of batch rows."""
        return KeptPositions(pick(self.position), None if self.valid is None else pick(self.valid), self.end)


def plain(rows: int, length: int, device: torch.device) -> KeptPositions:
    """Return the slots of a layer that holds every position."""
    return KeptPositions(torch.arange(length, device=device).expand(rows, -1), None, length)


_CLASSES: dict[type, type] = {}


def shortened_class(base: type) -> type:
    """Return the subclass of a cache layer class `base` that knows which positions it holds.

    One base only: the class of an object is changed in place, which a second base would forbid.
    """
    if base not in _CLASSES:
        name = f"Shortened{base.__name__}"
        body = {**_BODY, "_layer_type": None, "__module__": __name__, "__qualname__": name, "_base": base}
        # In the module's globals, so that pickle finds the class by its name; a new process makes it in `__getattr__`.
        _CLASSES[base] = globals()[name] = type(name, (base,), body)
    return _CLASSES[base]


def __getattr__(name: str) -> Any:
    """Make the shortened class that a pickled layer names."""
    base = getattr(stock_caches, name.removeprefix("Shortened"), None) if name.startswith("Shortened") else None
    if isinstance(base, type) and issubclass(base, CacheLayerMixin):
        return shortened_class(base)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def shortened(cache: Cache, layer: int) -> Any:
    """Return layer `layer` of `cache`, its class swapped for one that knows its slots.

    Raises:
        ValueError: a layer that does not hold every token, such as one with a sliding window.
    """
    if cache.layer_class_to_replicate is not None:
        while len(cache.layers) <= layer:
            cache.layers.append(cache.layer_class_to_replicate())
    cache_layer: Any = cache.layers[layer]
    if not is_shortened(cache_layer):
        if getattr(cache_layer, "is_sliding", False) or not hasattr(cache_layer, "get_seq_length"):
            raise ValueError(
                f"the cache has a {type(cache_layer).__name__} at layer {layer}: decoder stages need layers that hold "
                "every token; use stages before the language model"
            )
        cache_layer.__class__ = shortened_class(type(cache_layer))
    if not hasattr(cache, "claimed"):
        guard(cache)
        claim(cache)
    return cache_layer


def is_shortened(cache_layer: Any) -> bool:
    """Return whether a cache layer knows its slots."""
    return getattr(cache_layer, "slots", False) is not False


def is_quantised(cache_layer: Any) -> bool:
    """Return whether a cache layer stores its keys quantised."""
    return isinstance(cache_layer, getattr(stock_caches, "BaseQuantizedLayer", stock_caches.QuantizedLayer))


def filled(cache_layer: Any) -> int:
    """Return the number of filled slots of a shortened layer, which is less than its logical length."""
    return int(type(cache_layer)._base.get_seq_length(cache_layer))


def keys_seen(cache_layer: Any, new: int) -> int:
    """Return the number of keys that attention gets when `new` tokens come."""
    return int(cache_layer.max_cache_len) if isinstance(cache_layer, StaticLayer) else filled(cache_layer) + new


def check_room(cache: Any, new: int, before: int | None = None) -> None:
    """Raise ValueError where a static cache has fewer slots than the sequence has logical positions.

    Masks have a column for each slot, so that what lies behind would never be seen, though shortened layers fit.

    Args:
        cache: any, or None.
        new: tokens that come.
        before: logical positions that it holds; None asks its first layer, which waits for the device.
    """
    cache_layer = next(iter(getattr(cache, "layers", None) or ()), None)
    if torch.compiler.is_compiling() or not isinstance(cache_layer, StaticLayer):
        return
    length = (int(cache_layer.get_seq_length()) if before is None else before) + new
    if length > cache_layer.max_cache_len:
        raise ValueError(
            f"the static cache has max_cache_len={cache_layer.max_cache_len}, and the sequence reaches {length} "
            "tokens, those that left inside the language model among them; make it as long as prompt and answer, "
            "or use a DynamicCache"
        )


def _get_seq_length(self: Any) -> Any:
    length = type(self)._base.get_seq_length(self)
    if self.slots is None or not self.is_initialized:
        return length
    return length + (self.slots.end - self.slots.position.shape[1])


def _over_rows(name: str) -> Callable[[Any, Any], None]:
    def changed(self: Any, by: Any) -> None:
        getattr(type(self)._base, name)(self, by)
        if self.slots is not None:
            self.slots = self.slots.rows(lambda x: PICKS[name](x, by))

    return changed


def _cropped(cache_layer: Any, tokens_to_remove: int) -> KeptPositions:
    """Return the slots of a shortened layer after cropping."""
    slots: KeptPositions = cache_layer.slots
    over = slots.position.shape[1] - (filled(cache_layer) + min(0, tokens_to_remove))
    return slots.shortened(over) if over > 0 else slots


def _check_crop(self: Any, tokens_to_remove: int) -> None:
    """Raise ValueError where the layer cannot be cropped so far."""
    if self.slots is not None:
        _cropped(self, tokens_to_remove)


def _crop(self: Any, tokens_to_remove: int) -> None:
    if self.slots is not None:
        self.slots = _cropped(self, tokens_to_remove)
    type(self)._base.crop(self, tokens_to_remove)


def _reset(self: Any) -> None:
    type(self)._base.reset(self)
    self.slots = None


_BODY: dict[str, Any] = {
    "__doc__": "A cache layer with a slot for some positions only; its lengths are logical.",
    "slots": None,
    "get_seq_length": _get_seq_length,
    "check_crop": _check_crop,
    "crop": _crop,
    "reset": _reset,
    **{name: _over_rows(name) for name in PICKS},
}
