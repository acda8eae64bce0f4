"""One call."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Asker, Plan


@dataclass(frozen=True)
class Direct(Plan):
    """Asks the question."""

    name = "direct"
    calls = "1"

    def run(self, asker: Asker, question: str) -> str:
        """See `Plan.run`."""
        return asker.ask(question, "answer")
