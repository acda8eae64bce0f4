"""Times of calls that are taken in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Median of `count` measurements in seconds, and the quartiles around it."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """That of at least one."""
        low, median, high = (float(q) for q in np.quantile(np.array(seconds, float), (0.25, 0.5, 0.75)))
        return cls(median, low, high, len(seconds))


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    cold: Collection[str] | None = None,
    patience: float = float("inf"),
    around: Mapping[str, Callable[[], AbstractContextManager[object]]] | None = None,
    wait: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[str, list[float]]:
    """Seconds of each call, one a round, after a round of cold ones that warms up and is not counted.

    Each round begins with another call, so that none is always the one that follows the longest.

    Args:
        cold: names of those that must warm up; None: all of them.
        rounds: at most; fewer are made once they have taken `patience` seconds, but one is.
        around: makes what some calls are made within, which is not timed.
        wait: called before the clock is read: on a GPU work is only queued.
        on_round: called with how many rounds are done, the one that warms up among them.
    """
    names = list(calls)
    taken: dict[str, list[float]] = {name: [] for name in names}
    begun = clock()
    for number in range(rounds + 1):
        if number > 1 and clock() - begun > patience:
            break
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if not number and cold is not None and name not in cold:
                continue
            with (around or {}).get(name, nullcontext)():
                wait()
                start = clock()
                calls[name]()
                wait()
                if number:
                    taken[name].append(clock() - start)
        on_round(number + 1)
    return taken
