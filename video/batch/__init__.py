"""Batch video QA: many questions about many files, resumable. Names are imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answerer import Answerer
    from .engine import answer_batch
    from .fingerprints import fingerprint
    from .job import Job
    from .questions import Group, Question, grouped, read_questions
    from .summary import Summary

_HOME = {
    "Answerer": "answerer",
    "Group": "questions",
    "Job": "job",
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


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
