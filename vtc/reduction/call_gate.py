"""Keeps a model's wrapping from changing while calls are under way."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 5.0
"""Seconds that a call is held while a change waits; a call under way may itself be waiting for it."""


class CallGate:
    """Counts the calls on one wrapped model, and has a change of the wrapping wait for them.

    A call would else lose the hooks that read its shortened prompt, and answer without its images. Calls of other
    threads that begin while a change waits are held until it is made. A copy or a pickle of a gate is a new one.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._calls: Counter[int] = Counter()
        self._forwards: Counter[int] = Counter()
        self._changing: int | None = None
        self._made = False

    def __reduce__(self) -> tuple[type[CallGate], tuple[()]]:
        return CallGate, ()

    @contextmanager
    def call(self, model: Any) -> Iterator[None]:
        """A call, or that part of a `forward` that encodes. Waits while another thread changes the wrapping."""
        thread = threading.get_ident()
        with self._free:
            # A call inside of a call goes on: the change waits for the outer one.
            if self._changing not in (None, thread) and not self._runs(thread, model):
                self._free.wait_for(lambda: self._changing is None, timeout=PATIENCE)
                self._free.wait_for(lambda: not self._made)
            self._calls[thread] += 1
        try:
            yield
        finally:
            with self._free:
                self._leave(self._calls, thread)

    def begin(self) -> None:
        """Count the rest of a `forward` of this thread, until `end`."""
        with self._free:
            self._forwards[threading.get_ident()] += 1

    def end(self) -> None:
        """The end of a `forward`, also of one that was not counted."""
        thread = threading.get_ident()
        if self._forwards[thread]:
            with self._free:
                self._leave(self._forwards, thread)

    @contextmanager
    def change(self, model: Any) -> Iterator[None]:
        """A change of the wrapping of `model`: waits until the calls of other threads have ended.

        Raises:
            RuntimeError: a call of this thread is under way, and would wait for itself.
        """
        thread = threading.get_ident()
        with self._free:
            if self._calls[thread]:
                raise RuntimeError(
                    "a call on this model is under way in this thread, and its images would be lost: call restore or "
                    "reduce_tokens when it has ended, not from a callback of it"
                )
            self._free.wait_for(lambda: self._changing is None)
            self._changing = thread
        try:
            with self._free:
                while self._others(thread, model):
                    self._free.wait(timeout=0.2)  # looks again: an interrupted forward ends without a word
                self._made = True
            yield
        finally:
            with self._free:
                self._changing, self._made = None, False
                self._free.notify_all()

    def _leave(self, counts: Counter[int], thread: int) -> None:
        counts[thread] -= 1
        if counts[thread] <= 0:
            del counts[thread]
        self._free.notify_all()

    def _runs(self, thread: int, model: Any) -> bool:
        """Whether `thread` has a call under way. What an interrupted `forward` left in the count is looked into."""
        return self._calls[thread] > 0 or (self._forwards[thread] > 0 and _inside(thread, model))

    def _others(self, thread: int, model: Any) -> bool:
        """Return whether threads other than `thread` have calls under way."""
        return any(self._runs(other, model) for other in {*self._calls, *self._forwards} - {thread})


def _inside(thread: int, model: Any) -> bool:
    """Return whether a thread is inside of a call of the module `model`."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_name == "_call_impl" and frame.f_locals.get("self") is model:
            return True
        frame = frame.f_back
    return False
