"""Signals that end what a command serves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends a server beside Ctrl-C; not every system has both."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and the end of the terminal end the block as Ctrl-C does, so that what it holds is cleaned up.

    They do so once: a second signal would end the cleaning.
    """
    came: list[int] = []

    def end(number: int, frame: Any) -> None:
        """End the block, the first time."""
        came.append(number)
        if len(came) == 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
