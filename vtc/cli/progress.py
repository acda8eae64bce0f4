"""Bars that show how far the reading of a video is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

WORDS = {"look": "looking at small frames", "read": "reading what was chosen", "process": "processing"}


@contextmanager
def bars(console: Console | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each phase that the block reports, as `vtc.video.prepare` does; they vanish at its end.

    Args:
        console: where; standard error by default. On what is no terminal nothing is shown.
    """
    screen = console or Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as shown:
        tasks: dict[str, TaskID] = {}

        def tell(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = shown.add_task(WORDS.get(phase, phase), total=total)
            shown.update(tasks[phase], completed=done, total=total)

        yield tell
