"""Counters that vLLM's `/metrics` shows beside its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import cache
from typing import Any, Protocol


class Counts(Protocol):
    """An item's tokens, unreduced and reduced."""

    before: int
    after: int


_lock = threading.Lock()


@cache
def counters() -> tuple[Any, Any]:
    """The counters of this process, of visual tokens that stock vLLM would have read, and of those that were."""
    from prometheus_client import Counter

    full = Counter("vtc_visual_tokens_full", "Visual tokens that the requests had before their reduction")
    kept = Counter("vtc_visual_tokens_kept", "Visual tokens of the requests that were read")
    return full, kept


def count_tokens(items: Iterable[Counts]) -> None:
    """Add the items of a request."""
    items = list(items)
    if items:
        with _lock:  # a second thread that made them would be refused
            full, kept = counters()
        full.inc(sum(item.before for item in items))
        kept.inc(sum(item.after for item in items))
