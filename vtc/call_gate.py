"""Keeps a model's wrapping from changing while calls are under way."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class CallGate:
    """Counts the calls on one wrapped model, and has a change of the wrapping wait for them.

    A call would else lose the hooks that read its shortened prompt, and answer without its images. Calls of other
    threads that begin while a change waits are held until it is made. A copy or a pickle of a gate is a new one.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._calls: Counter[int] = Counter()
        self._forwards: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
        self._changing: int | None = None

    def __reduce__(self) -> tuple[type[CallGate], tuple[()]]:
        return CallGate, ()

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call, or that part of a `forward` that encodes. Waits while another thread changes the wrapping."""
        thread = threading.get_ident()
        with self._free:
            # A call inside of a call goes on: the change waits for the outer one.
            self._free.wait_for(lambda: self._changing in (None, thread) or self._own(thread))
            self._calls[thread] += 1
        try:
            yield
        finally:
            with self._free:
                self._calls[thread] -= 1
                self._calls += Counter()  # drops threads that have none
                self._free.notify_all()

    def begin(self, marker: object) -> None:
        """Counts the rest of a `forward`, until `end` or until `marker`, which travels in its arguments, is gone."""
        with self._free:
            self._forwards[marker] = threading.get_ident()

    def end(self, marker: object | None) -> None:
        """The end of a `forward`, also of one that was not counted."""
        if marker is None or marker not in self._forwards:
            return
        with self._free:
            self._forwards.pop(marker, None)
            self._free.notify_all()

    @contextmanager
    def change(self) -> Iterator[None]:
        """A change of the wrapping: waits until the calls of other threads have ended.

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
                while self._others(thread):
                    self._free.wait(timeout=0.2)  # looks again: a forward that was interrupted ends without a word
            yield
        finally:
            with self._free:
                self._changing = None
                self._free.notify_all()

    def _own(self, thread: int) -> bool:
        """Whether `thread` has a call under way."""
        return self._calls[thread] > 0 or thread in self._forwards.values()

    def _others(self, thread: int) -> bool:
        """Whether threads other than `thread` have calls under way."""
        living = {one.ident for one in threading.enumerate()}
        forwards = [owner for owner in self._forwards.values() if owner in living]
        return any(owner != thread for owner in (*self._calls, *forwards))
