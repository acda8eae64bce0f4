"""`vtc merge`: shards of a batch and the block folders of Ray, joined into one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import note

if TYPE_CHECKING:
    from vtc.video.batch.merge import Merged

SHOWN = 5

Answers = Annotated[list[Path], typer.Argument(metavar="ANSWERS...", help="Files of answers, and folders of Ray's.")]
Out = Annotated[Path, typer.Option(metavar="FILE", help="Where to: .jsonl or .parquet.", show_default=False)]
Asked = Annotated[Path | None, typer.Option(metavar="QUESTIONS", help="What was asked, to find gaps by.")]


def merge(answers: Answers, out: Out, questions: Asked = None) -> None:
    """Join the answers of shards, each id once, and report duplicates and gaps.

    Exit code: 0: every id once, of one job; 1: duplicates, gaps or torn files, which are listed; the file is
    written all the same.
    """
    from vtc.video.batch.merge import merge as join

    merged = join(answers, out, questions)
    typer.echo(f"{merged.rows} answers in {out}")
    for line in complaints(merged):
        note(line)
    if not merged.clean:
        raise typer.Exit(1)


def complaints(merged: Merged) -> list[str]:
    """What there is to say of `merged` beside its count, a line each."""
    findings = (
        (merged.equal, "found more than once with the same answer; each is written once"),
        (merged.unequal, "found with different answers; the first that is no error is written"),
        (merged.gaps, "not answered; run vtc batch again"),
        (merged.strange, "answered, but not among the questions"),
        (merged.torn, "end within a line; that line is left out: run vtc batch on its file again"),
    )
    lines = [f"{_some(names)} {words}" for names, words in findings if names]
    return lines + (
        ["answers of different jobs are joined: their fingerprints begin differently"] if merged.mixed else []
    )


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)}: {', '.join(names[:SHOWN])}{more}"
