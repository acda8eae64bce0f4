"""Fingerprints that bind an answer to its job, medium and question."""

from __future__ import annotations

from pathlib import Path

from .config import Job, digest
from .questions import SCHEMES, Question

GONE = "missing"
PARTS = ("model, recipe or generation arguments", "the medium", "the question, its choices, stretch, system or answer")
"""What each part of a fingerprint stands for."""


def fingerprint(job: Job, question: Question, medium: str | None = None) -> str:
    """`JOB-MEDIUM-QUESTION`, each part digits that change with what they stand for.

    The job's: see `Job.digits`. The question's: all of its row that is not merely kept through.

    Args:
        medium: of `medium_stamp`, where it was taken before; None: as the medium is now.
    """
    stamp = medium_stamp(question.medium) if medium is None else medium
    return f"{job.digits}-{stamp}-{digest(_asked(question))}"


def medium_stamp(medium: str) -> str:
    """Name, size and time of a file, so that it may be moved; the whole of a URL; `missing` where there is none."""
    if medium.lower().startswith(SCHEMES):
        return digest(medium)
    try:
        stat = Path(medium).stat()
    except (OSError, ValueError):  # the row will say so
        return GONE
    return digest([Path(medium).name, stat.st_size, stat.st_mtime_ns])


def differing(then: str | None, now: str) -> list[str]:
    """Return which `PARTS` of fingerprint `then` differ now.

    A medium that is no more there is no other one: its answers stay.
    """
    pairs = list(zip((then or "").split("-"), now.split("-"), PARTS, strict=False))
    if len(pairs) < len(PARTS):
        return [PARTS[0]]
    return [part for old, new, part in pairs if old != new and not (part == PARTS[1] and new == GONE)]


def _asked(question: Question) -> list[object]:
    return [
        *(question.question, question.choices, question.start, question.end),
        *(question.answer, question.system, question.image),
    ]
