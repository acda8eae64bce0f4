"""Batch video QA: many questions about many files, resumable. Names are imported where they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtc.core.lazy import lazy

if TYPE_CHECKING:
    from .answerer import Answerer
    from .config import Job
    from .engine import answer_batch
    from .fingerprints import fingerprint
    from .questions import (
        Group,
        Question,
        grouped,
        read_questions,
    )
    from .summary import Summary

_HOME = {
    "Answerer": "answerer",
    "Group": "questions",
    "Job": "config",
    "Question": "questions",
    "Summary": "summary",
    "answer_batch": "engine",
    "fingerprint": "fingerprints",
    "grouped": "questions",
    "read_questions": "questions",
}

__all__ = [
    "Answerer",
    "Group",
    "Job",
    "Question",
    "Summary",
    "answer_batch",
    "fingerprint",
    "grouped",
    "read_questions",
]

__getattr__, __dir__ = lazy(__name__, _HOME)
