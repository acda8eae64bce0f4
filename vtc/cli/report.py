"""What `vtc report` does."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from vtc.html_report import write_report
from vtc.inference.quiet import quiet

from .console import notes, shown


def report(
    source: Path, out: Path, examples: int, questions: Path | None, model: str | None, overlays: bool, title: str | None
) -> None:
    """Write the page about `source` to `out`, and say how large it is.

    Raises:
        OSError, ValueError: see `vtc.html_report.write_report`.
    """
    with quiet(), notes():
        made = write_report(
            source, out, examples=examples, questions=questions, model=model, overlays=overlays, title=title
        )
    size = made.stat().st_size / 2**20
    Console().print(shown(f"written: {made} ({size:.2f} MiB, one file, needs no network)"), highlight=False)
