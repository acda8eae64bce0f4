"""The columns of a batch: what a row of questions may hold, and what a row of answers does."""

from __future__ import annotations

from collections.abc import Mapping

COLUMNS = ("id", "video", "image", "question", "choices", "start", "end", "answer", "system")
"""Of questions; others are kept through to the answers."""
STAGES = ("read", "segment", "encode", "reduce", "prefill", "decode")
NAMES = (
    *("id", "video", "image", "question"),
    *("answer", "error", "choice", "correct", "frames", "tokens_full", "tokens_kept", "seconds", "recipe"),
    *("fingerprint", "versions", "seed", "note", "plan", "calls"),
)
"""Of answers."""
OPTIONAL = ("video", "image", "question", "choice", "correct", "note", "plan", "calls")
"""Those of `NAMES` that a row has only where there is something to say."""


def kept_name(name: str) -> str:
    """Return the name of a passed-through column among the answers: another one where the name is taken."""
    return f"input_{name}" if name in NAMES else name


def why_no_answer(row: object) -> str | None:
    """Return why `row` of a file is no answer, in words; None where it is one.

    An answer has an `id` and an `answer` or an `error`. A question whose right answer is known has the first two as
    well, but names what is asked about what, and nothing else that an answer has.
    """
    if not isinstance(row, Mapping):
        return "it is no object"
    if "id" not in row:
        return "it has no `id`"
    if not {"answer", "error"} & row.keys():
        return "it has neither `answer` nor `error`" + (", as questions have" if "question" in row else "")
    asked = "question" in row and {"video", "image"} & row.keys()
    if asked and not {"error", "choice", "correct", "tokens_full", "tokens_kept", "fingerprint", "recipe"} & row.keys():
        return "it is a question, with the right answer to it"
    return None
