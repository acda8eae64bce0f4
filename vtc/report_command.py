"""What `vtc report` does."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from .console import notes, quiet, shown
from .report_page import write_report


def report(
    source: Path, out: Path, examples: int, questions: Path | None, model: str | None, overlays: bool, title: str | None
) -> None:
    """Writes the page about `source` to `out`, and says how large it is.

    Raises:
        OSError, ValueError: see `vtc.report_page.write_report`.
    """
    with quiet(), notes():
        made = write_report(
            source, out, examples=examples, questions=questions, model=model, overlays=overlays, title=title
        )
    size = made.stat().st_size / 2**20
    Console().print(shown(f"written: {made} ({size:.2f} MiB, one file, needs no network)"), highlight=False)
