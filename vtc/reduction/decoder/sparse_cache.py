"""Cache layers that hold fewer tokens than their neighbours, and report the length that they would have in full.

All that looks at a cache from outside (masks, `generate`, beams, cropping) counts logical positions: those of the
sequence as it enters the first layer. Only here is it known which of them have a slot.
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
    """Which logical positions the first M slots of a cache layer hold; later slots follow without gaps.

    Attributes:
        position: `[B, M]` int64.
        valid: `[B, M]` bool, or None where no slot is a filler.
        end: the logical position of slot M.
    """

    position: Tensor
    valid: Tensor | None
    end: int

    def grown(self, keys: int) -> KeptPositions:
        """The same for `keys` slots."""
        more = keys - self.position.shape[1]
        tail = torch.arange(self.end, self.end + more, device=self.position.device)
        position = torch.cat([self.position, tail.expand(len(self.position), -1)], dim=1)
        valid = self.valid
        if valid is not None:
            valid = torch.cat([valid, valid.new_ones(len(valid), more)], dim=1)
        return KeptPositions(position, valid, self.end + more)

    def joined(self, position: Tensor, valid: Tensor | None, end: int) -> KeptPositions:
        """These slots, then further ones."""
        both = None
        if self.valid is not None or valid is not None:
            parts = ((self.valid, self.position), (valid, position))
            both = torch.cat([torch.ones_like(p, dtype=torch.bool) if v is None else v for v, p in parts], dim=1)
        return KeptPositions(torch.cat([self.position, position], dim=1), both, end)

    def shortened(self, last: int) -> KeptPositions:
        """The same without the `last` slots, which must hold as many neighbouring positions, in every row.

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
        """The slots of a batch whose rows were changed by `pick`."""
        return KeptPositions(pick(self.position), None if self.valid is None else pick(self.valid), self.end)


def plain(rows: int, length: int, device: torch.device) -> KeptPositions:
    """The slots of a layer that holds every position."""
    return KeptPositions(torch.arange(length, device=device).expand(rows, -1), None, length)


_CLASSES: dict[type, type] = {}


def shortened_class(base: type) -> type:
    """The subclass of a class `base` of cache layers that knows which positions are there.

    One base only: the class of an object is changed in place, which a second base would forbid.
    """
    if base not in _CLASSES:
        name = f"Shortened{base.__name__}"
        body = {**_BODY, "_layer_type": None, "__module__": __name__, "__qualname__": name, "_base": base}
        _CLASSES[base] = globals()[name] = type(name, (base,), body)
    return _CLASSES[base]


def __getattr__(name: str) -> Any:
    """Finds the classes again that a pickled layer names."""
    base = getattr(stock_caches, name.removeprefix("Shortened"), None) if name.startswith("Shortened") else None
    if isinstance(base, type) and issubclass(base, CacheLayerMixin):
        return shortened_class(base)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def shortened(cache: Cache, layer: int) -> Any:
    """Layer `layer` of `cache`, made to know its slots.

    Raises:
        ValueError: a layer that does not hold every token, such as one with a sliding window.
    """
    if cache.layer_class_to_replicate is not None:
        while len(cache.layers) <= layer:
            cache.layers.append(cache.layer_class_to_replicate())
    held: Any = cache.layers[layer]
    if not is_shortened(held):
        if getattr(held, "is_sliding", False) or not hasattr(held, "get_seq_length"):
            raise ValueError(
                f"the cache has a {type(held).__name__} at layer {layer}: decoder stages need layers that hold "
                "every token; use stages before the language model"
            )
        held.__class__ = shortened_class(type(held))
    if not hasattr(cache, "claimed"):
        guard(cache)
        claim(cache)
    return held


def is_shortened(held: Any) -> bool:
    """Whether a cache layer knows its slots."""
    return getattr(held, "slots", False) is not False


def is_quantised(held: Any) -> bool:
    """Whether a cache layer holds most keys in fewer bits than they had."""
    return isinstance(held, getattr(stock_caches, "BaseQuantizedLayer", stock_caches.QuantizedLayer))


def filled(held: Any) -> int:
    """How many slots of a shortened layer are filled."""
    return int(type(held)._base.get_seq_length(held))


def keys_seen(held: Any, new: int) -> int:
    """How many keys attention is given when `new` tokens come."""
    return int(held.max_cache_len) if isinstance(held, StaticLayer) else filled(held) + new


def check_room(cache: Any, new: int, before: int | None = None) -> None:
    """Raises ValueError where a static cache has fewer slots than the sequence has logical positions.

    Masks have a column for each slot, so that what lies behind would never be seen, though shortened layers fit.

    Args:
        cache: any, or None.
        new: tokens that come.
        before: logical positions that it holds; None asks its first layer, which waits for the device.
    """
    held = next(iter(getattr(cache, "layers", None) or ()), None)
    if torch.compiler.is_compiling() or not isinstance(held, StaticLayer):
        return
    length = (int(held.get_seq_length()) if before is None else before) + new
    if length > held.max_cache_len:
        raise ValueError(
            f"the static cache has max_cache_len={held.max_cache_len}, and the sequence reaches {length} tokens, those "
            "that left inside the language model among them; make it as long as prompt and answer, or use a "
            "DynamicCache"
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


def _cropped(held: Any, tokens_to_remove: int) -> KeptPositions:
    """The slots of a shortened layer once it is cropped."""
    slots: KeptPositions = held.slots
    over = slots.position.shape[1] - (filled(held) + min(0, tokens_to_remove))
    return slots.shortened(over) if over > 0 else slots


def _check_crop(self: Any, tokens_to_remove: int) -> None:
    """Raises ValueError where the layer cannot be cropped so far."""
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
