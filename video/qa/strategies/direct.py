"""One call."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Asker, Strategy


@dataclass(frozen=True)
class Direct(Strategy):
    """Asks the question."""

    name = "direct"
    calls = "1"

    def run(self, asker: Asker, question: str) -> str:
        """See `Strategy.run`."""
        return asker.ask(question, "answer")
