"""The class of a cache whose prompt is shortened: models that are not wrapped are kept from reading it.

To them it looks like the cache of a shorter conversation, from which they would go on at wrong positions, without a
word. The class of the caller's own object is changed, so that whoever holds it holds a guarded cache.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from transformers import cache_utils as stock_caches
from transformers.cache_utils import Cache

_CLASSES: dict[type, type] = {}


def guard(cache: Any) -> None:
    """Makes `cache` refuse to be read by a model that is not wrapped, and to be cropped to a length."""
    if isinstance(cache, Cache) and not hasattr(cache, "led"):
        cache.__class__ = guarded_class(type(cache))


def lead(cache: Any) -> None:
    """Tells a guarded cache that a wrapped model reads it now."""
    if not torch.compiler.is_compiling() and hasattr(cache, "led"):
        cache.led = True


def unlead(cache: Any) -> None:
    """Takes back what `lead` told, which holds for one call."""
    if not torch.compiler.is_compiling() and hasattr(cache, "led"):
        cache.led = False


class LedCaches:
    """The caches that a wrapped model has led; what an interrupted call leaves open, `close` closes.

    A copy or a pickle holds none.
    """

    def __init__(self) -> None:
        self._caches: weakref.WeakSet[Any] = weakref.WeakSet()

    def __reduce__(self) -> tuple[type[LedCaches], tuple[()]]:
        return LedCaches, ()

    def open(self, cache: Any) -> None:
        """Lets the call that begins read `cache`, if it is guarded."""
        if not torch.compiler.is_compiling() and hasattr(cache, "led"):
            lead(cache)
            self._caches.add(cache)

    def close(self) -> None:
        """Lets no model read them but one that leads them again."""
        for cache in self._caches:
            unlead(cache)
        self._caches.clear()


def guarded_class(base: type) -> type:
    """The guarded subclass of a class of caches. One base only: an object's class could not be changed to another."""
    if base not in _CLASSES:
        name = f"Guarded{base.__name__}"
        body = {**_BODY, "__module__": __name__, "__qualname__": name, "_base": base}
        _CLASSES[base] = globals()[name] = type(name, (base,), body)
    return _CLASSES[base]


def __getattr__(name: str) -> Any:
    """Finds the classes again that a pickled cache names."""
    base = getattr(stock_caches, name.removeprefix("Guarded"), None) if name.startswith("Guarded") else None
    if isinstance(base, type) and issubclass(base, Cache):
        return guarded_class(base)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _check_led(cache: Any) -> None:
    """Raises ValueError where a model that is not wrapped is about to add to what the cache holds."""
    if torch.compiler.is_compiling() or cache.led:
        return
    lacking = any(getattr(held, "slots", None) is not None for held in cache.layers)
    if not lacking and getattr(cache, "vtc", None) is None:
        return
    if not lacking and int(cache.get_seq_length()) == 0:
        del cache.vtc  # emptied since: anybody's
        return
    raise ValueError(
        "the cache holds a prompt from which visual tokens were left out, and the model that reads it is not wrapped; "
        "start the conversation again, or go on with a model that reduce_tokens wraps"
    )


def _checked(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        _check_led(self)
        return getattr(type(self)._base, name)(self, *args, **kwargs)

    return method


def _crop(self: Any, tokens_to_remove: int) -> None:
    if tokens_to_remove > 0:
        # transformers 5.18 and 5.19 take a positive number for the length to crop to, and others refuse it. The length
        # that a caller knows is that of the full prompt, and the cache is shorter: it would not be cropped at all.
        raise ValueError(
            f"crop({tokens_to_remove}): a cache of a shortened prompt does not have the length of the conversation; "
            "pass how many tokens to take away, as a negative number"
        )
    for held in self.layers:
        check: Callable[[int], None] | None = getattr(held, "check_crop", None)
        if check is not None:
            check(tokens_to_remove)  # raises before any layer was cropped
    type(self)._base.crop(self, tokens_to_remove)


def _over_rows(name: str) -> Callable[[Any, Any], None]:
    def changed(self: Any, by: Any) -> None:
        getattr(type(self)._base, name)(self, by)
        note = getattr(self, "vtc", None)
        if note is not None:
            self.vtc = note.rows(lambda rows: PICKS[name](rows, by))

    return changed


PICKS: dict[str, Callable[[torch.Tensor, Any], torch.Tensor]] = {
    "reorder_cache": lambda rows, beams: rows.index_select(0, beams.to(rows.device)),
    "batch_repeat_interleave": lambda rows, times: rows.repeat_interleave(times, dim=0),
    "batch_select_indices": lambda rows, chosen: rows[torch.as_tensor(chosen, device=rows.device)],
}
"""The methods by which a cache changes its rows, and what they do to any tensor with one entry a row."""

_BODY: dict[str, Any] = {
    "__doc__": "A cache of a shortened prompt; wrapped models alone read it.",
    "led": False,
    "crop": _crop,
    **{name: _checked(name) for name in ("update", "update_conv_state", "update_recurrent_state")},
    **{name: _over_rows(name) for name in PICKS},
}
