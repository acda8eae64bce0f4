"""Rows of answers, whichever engine gave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from .columns import STAGES
from .config import Job
from .fingerprints import fingerprint
from .journal import row_of
from .matching.choices import correct, picked
from .questions import Question

Row = dict[str, Any]
UNKNOWN_RECIPE = "server's own"
"""The recipe's name where an endpoint is left to its own, which may be none."""


@dataclass(frozen=True)
class Seen:
    """What an answer is about, as its row says it.

    Attributes:
        times: of the frames, in seconds; empty for an image.
        stamp: of the file that was read, see `medium_stamp`.
        note: what a user should know of it.
    """

    times: Sequence[float]
    stamp: str
    note: str = ""


class RowMaker:
    """Makes the rows of a job.

    Args:
        job: whose answers they are.
        packages: distributions whose versions a row tells.
        more: further versions.
    """

    def __init__(self, job: Job, packages: Sequence[str], more: Mapping[str, str] | None = None) -> None:
        self.job = job
        self.versions = {name: version(name) for name in packages} | dict(more or {})

    def answered(
        self,
        question: Question,
        text: str,
        seen: Seen,
        tokens: tuple[int | None, int | None],
        seconds: Mapping[str, float | None],
        more: Mapping[str, Any] | None = None,
    ) -> Row:
        """A row with an answer.

        Args:
            question: what was asked.
            text: the answer.
            seen: what it is about.
            tokens: visual tokens that the stock model would have read, and those that were; None: not known.
            seconds: spent, by stage; None: not measured.
            more: further columns.
        """
        values: Row = {"answer": text, "error": None}
        if question.choices:
            values["choice"] = picked(text, question.choices, self.job.choices == "listed")
        right = correct(text, values.get("choice"), question)
        if right is not None:
            values["correct"] = right
        frames = [round(float(t), 3) for t in seen.times]
        values |= {"frames": frames, "tokens_full": tokens[0], "tokens_kept": tokens[1]}
        if seen.note:
            values["note"] = seen.note
        values["seconds"] = {stage: None if value is None else round(value, 6) for stage, value in seconds.items()}
        return row_of(question, **values, **(more or {}), **self._bound(question, seen.stamp))

    def failed(self, question: Question, error: BaseException, kind: str | None = None) -> Row:
        """A row without an answer, which is not the right one where that is known; what it took was not measured.

        Args:
            question: what was asked.
            error: why there is no answer.
            kind: in place of the name of its class.
        """
        kind = kind or type(error).__name__
        text = " ".join(str(error).split())
        empty: Row = {"answer": None, "error": f"{kind}: {text}" if text else kind, "frames": []}
        with suppress(ValueError):  # an answer that is none of the choices is not known
            if correct("", None, question) is not None:
                empty["correct"] = False
        seconds = dict.fromkeys(STAGES)
        return row_of(question, **empty, tokens_full=0, tokens_kept=0, seconds=seconds, **self._bound(question))

    def _bound(self, question: Question, stamp: str | None = None) -> Row:
        """Return provenance columns: recipe, fingerprint, versions, seed; `stamp` is of the medium that was read."""
        recipe = self.job.recipe_for(question.image)
        own = self.job.reduces
        return {
            "recipe": {"name": recipe.name if own else UNKNOWN_RECIPE, "keep": recipe.keep if own else None},
            "fingerprint": fingerprint(self.job, question, stamp),
            "versions": self.versions,
            "seed": self.job.seed,
        }
