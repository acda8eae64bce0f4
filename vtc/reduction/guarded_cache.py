"""Guard of a cache whose prompt was shortened: an unwrapped model that reads it raises.

To such a model it looks like the cache of a shorter conversation, which it would continue at wrong positions without
an error. The cache object is the caller's and may be referred to from anywhere, so a proxy would not do: the class of
the object itself is swapped for a subclass made on the fly (`guarded_class`), which is state on the caller's object.
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
    """Swap the class of `cache` for its guarded subclass, which refuses unwrapped readers and crops to a length."""
    if isinstance(cache, Cache) and not hasattr(cache, "claimed"):
        cache.__class__ = guarded_class(type(cache))


def claim(cache: Any) -> None:
    """Mark a guarded cache as in use by a wrapped forward; an unwrapped model raises instead of reading it."""
    if not torch.compiler.is_compiling() and hasattr(cache, "claimed"):
        cache.claimed = True


def release(cache: Any) -> None:
    """Undo `claim`, which holds for one call."""
    if not torch.compiler.is_compiling() and hasattr(cache, "claimed"):
        cache.claimed = False


class ClaimedCaches:
    """Caches that a wrapped model has claimed and not yet released, so that an interrupted call can be cleaned up.

    Weak references: it keeps no cache alive. A copy or a pickle starts empty.
    """

    def __init__(self) -> None:
        self._caches: weakref.WeakSet[Any] = weakref.WeakSet()

    def __reduce__(self) -> tuple[type[ClaimedCaches], tuple[()]]:
        return ClaimedCaches, ()

    def open(self, cache: Any) -> None:
        """Claim `cache`, if it is guarded, for the call that begins."""
        if not torch.compiler.is_compiling() and hasattr(cache, "claimed"):
            claim(cache)
            self._caches.add(cache)

    def close(self) -> None:
        """Release all claimed caches."""
        for cache in self._caches:
            release(cache)
        self._caches.clear()


def guarded_class(base: type) -> type:
    """Return the guarded subclass of a cache class. One base only: assigning `__class__` needs an equal layout."""
    if base not in _CLASSES:
        name = f"Guarded{base.__name__}"
        checked = {method: _checked(method) for method in READ if hasattr(base, method)}
        body = {**_BODY, **checked, "__module__": __name__, "__qualname__": name, "_base": base}
        # In the module's globals, so that pickle finds the class by its name; a new process makes it in `__getattr__`.
        _CLASSES[base] = globals()[name] = type(name, (base,), body)
    return _CLASSES[base]


def __getattr__(name: str) -> Any:
    """Make the guarded class that a pickled cache names."""
    base = getattr(stock_caches, name.removeprefix("Guarded"), None) if name.startswith("Guarded") else None
    if isinstance(base, type) and issubclass(base, Cache):
        return guarded_class(base)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _check_claimed(cache: Any) -> None:
    """Raise ValueError where an unwrapped model is about to append to a shortened cache."""
    if torch.compiler.is_compiling() or cache.claimed:
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
        _check_claimed(self)
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

READ = ("update", "get_conv_state", "get_recurrent_state", "update_conv_state", "update_recurrent_state")
"""Methods by which a model reads a cache: a single token changes the state of a convolution without its `update`."""

_BODY: dict[str, Any] = {
    "__doc__": "A cache of a shortened prompt; wrapped models alone read it.",
    "claimed": False,
    "crop": _crop,
    **{name: _over_rows(name) for name in PICKS},
}
