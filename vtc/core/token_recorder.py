"""A streamer for `generate` that records the tokens and when each of them came."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TokenRecorder:
    """What one call of `generate` handed over, without the prompt.

    Attributes:
        begun: when the call began, by `time.perf_counter`; by default when the recorder was made.
        tokens: ids generated so far, of several rows step by step.
        at: when each step came.
    """

    begun: float = field(default_factory=time.perf_counter)
    tokens: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    _prompt_seen: bool = False

    def put(self, value: Any) -> None:
        """Called by `generate`, with the prompt first and then step by step.

        Args:
            value: integer tensor on the host, so that the device is done with it.
        """
        if self._prompt_seen:
            self.at.append(time.perf_counter())
            self.tokens += value.flatten().tolist()
        self._prompt_seen = True

    def end(self) -> None:
        """Called by `generate` when it is done."""

    @property
    def first(self) -> float | None:
        """Seconds until the first token; None before it."""
        return self.at[0] - self.begun if self.at else None

    @property
    def next(self) -> float | None:
        """Mean seconds from token to token; None while there are fewer than two."""
        return (self.at[-1] - self.at[0]) / (len(self.at) - 1) if len(self.at) > 1 else None
