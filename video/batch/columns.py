"""The columns of a batch: what a row of questions may hold, and what a row of answers does."""

from __future__ import annotations

COLUMNS = ("id", "video", "image", "question", "choices", "start", "end", "answer", "system")
"""Of questions; others are kept through to the answers."""
STAGES = ("read", "segment", "encode", "reduce", "prefill", "decode")
NAMES = (
    *("id", "answer", "error", "choice", "correct", "frames", "tokens_full", "tokens_kept", "seconds", "recipe"),
    *("fingerprint", "versions", "seed", "note"),
)
"""Of answers."""
OPTIONAL = ("choice", "correct", "note")
"""Those of `NAMES` that a row has only where there is something to say."""


def kept_name(name: str) -> str:
    """What a column that is kept through is called among the answers: another name where it is one of theirs."""
    return f"input_{name}" if name in NAMES else name
