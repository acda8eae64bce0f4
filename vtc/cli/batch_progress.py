"""How far `vtc batch` is: a bar on a terminal, elsewhere a line every half minute for its log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 30.0
"""Seconds between two lines of a log."""


@dataclass
class BatchState:
    """Counts of a run.

    Attributes:
        done, total: rows in the file, and those that are wanted; None before the first is known.
        before: rows that were there when the run began.
        errors: rows with an error that this run wrote.
        begun: when it began to answer, by `clock`.
    """

    clock: Callable[[], float] = time.monotonic
    done: int = 0
    total: int | None = None
    before: int = 0
    errors: int = 0
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def tell(self, done: int, total: int) -> None:
        """Take what `answer_batch` says."""
        if self.total is None:
            self.before, self.begun = done, self.clock()
        self.done, self.total = done, total

    def note(self, row: Mapping[str, Any]) -> None:
        """Take a row that was written."""
        self.errors += row["error"] is not None

    @property
    def rate(self) -> float:
        """Rows a second of this run."""
        spent = self.clock() - self.begun
        return (self.done - self.before) / spent if spent > 0 else 0.0

    def __str__(self) -> str:
        if self.total is None:
            return "loading the model"
        failed = f", {self.errors} with an error" if self.errors else ""
        text = f"{self.done} of {self.total} rows{failed}, {self.rate:.2g} rows a second"
        if self.rate == 0 or self.done == self.total:
            return text
        return f"{text}, {duration((self.total - self.done) / self.rate)} left"


def duration(seconds: float) -> str:
    """Seconds in words: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def batch_progress(console: Console | None = None, every: float = EVERY) -> Iterator[BatchState]:
    """Context manager: the state to be told how far the run is, which is shown on `console` (standard error)."""
    screen = console or Console(stderr=True)
    state = BatchState()
    with _bar(screen, state) if screen.is_terminal else _lines(screen, state, every):
        yield state


@contextmanager
def _lines(screen: Console, state: BatchState, every: float) -> Iterator[None]:
    with _repeated(lambda: screen.print(str(state), highlight=False, markup=False, soft_wrap=True), every):
        yield


@contextmanager
def _bar(screen: Console, state: BatchState) -> Iterator[None]:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as shown:
        task = shown.add_task(str(state), total=None)

        def update() -> None:
            failed = f"{state.errors} errors, " if state.errors else ""
            text = str(state) if state.total is None else f"{failed}{state.rate:.2g} rows a second"
            shown.update(task, description=text, completed=state.done, total=state.total)

        with _repeated(update, 0.25):
            yield


@contextmanager
def _repeated(call: Callable[[], None], every: float) -> Iterator[None]:
    """Context manager: `call` is made each `every` seconds of the block, in a thread."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every):
            call()

    thread = threading.Thread(target=run, daemon=True, name="vtc-progress")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
