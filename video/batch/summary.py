"""Aggregate metrics of a batch run: right answers, tokens saved, throughput, and errors by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vtc.core.statistics import Interval, share_right

NAMED, LONGEST = 3, 200
"""Failed rows that a summary names, and the characters that it shows of an error."""


@dataclass(frozen=True)
class Summary:
    """Aggregate metrics of a file of answers, and how the last run that wrote to it ended.

    Attributes:
        rows: in the file, of the questions asked.
        answered: of them without an error.
        fresh: rows that this run wrote.
        errors: rows by the kind of their error.
        failed: ids and errors of the first of those rows, `NAMED` at most.
        uncounted: answered rows that tell no visual tokens, as those of an endpoint that does not.
        accuracy: the share of right answers where the right one is known, and its interval, media resampled (see
            `share_right`); an error is not right.
        known: rows whose right answer is known, those with an error among them.
        tokens_full, tokens_kept: visual tokens of all answered rows that tell both.
        seconds: this run took, the loading of the model apart.
        stopped: why it ended before all were asked: `interrupted`, `max_errors`, or empty.
    """

    rows: int
    answered: int
    fresh: int
    errors: dict[str, int]
    accuracy: Interval
    known: int
    tokens_full: int
    tokens_kept: int
    seconds: float
    stopped: str = ""
    failed: tuple[tuple[str, str], ...] = ()
    uncounted: int = 0

    @property
    def exit_code(self) -> int:
        """0: all answered; 1: some rows are errors, or are missing; 130: interrupted."""
        if self.stopped == "interrupted":
            return 130
        return int(bool(self.errors) or bool(self.stopped))

    def __str__(self) -> str:
        lines = [f"{self.rows} rows, {self.answered} answered; {self.fresh} rows in this run"]
        if self.fresh and self.seconds > 0:
            lines.append(f"{self.fresh / self.seconds:.2f} rows a second ({self.seconds:.1f} s)")
        if self.tokens_full:
            saved = 1 - self.tokens_kept / self.tokens_full
            rest = f"; {self.uncounted} rows tell none" if self.uncounted else ""
            lines.append(f"visual tokens: {self.tokens_kept} of {self.tokens_full}, {saved:.0%} saved{rest}")
        elif self.uncounted:
            lines.append("visual tokens: not known, the endpoint does not say")
        if self.accuracy.mean is not None:
            low, high = self.accuracy.low, self.accuracy.high
            bounds = "" if low is None or high is None else f" (95 %: {low:.1%} to {high:.1%})"
            wrong = ", an error is not right" if self.errors else ""
            lines.append(f"right: {self.accuracy.mean:.1%} of {self.known}{bounds}{wrong}")
        lines += [f"errors: {count} {kind}" for kind, count in sorted(self.errors.items())]
        lines += [f"  {name}: {error}" for name, error in self.failed]
        if left := sum(self.errors.values()) - len(self.failed):
            lines.append(f"  and {left} more, each in the row of its id")
        if self.stopped:
            lines.append(f"ended early: {self.stopped}; the same command goes on from here")
        return "\n".join(lines)


@dataclass
class Tally:
    """Counts rows as they come; of each no more is held than a few numbers.

    Attributes:
        wanted: the medium of each id that is asked for.
    """

    wanted: Mapping[str, str]
    rows: int = 0
    answered: int = 0
    uncounted: int = 0
    full: int = 0
    kept: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    media: dict[str, int] = field(default_factory=dict)
    right: list[tuple[int, bool]] = field(default_factory=list)

    def add_all(self, rows: Iterable[dict[str, Any]]) -> Tally:
        """Count those of `rows` that are wanted."""
        for row in rows:
            if row["id"] in self.wanted:
                self.add(row)
        return self

    def add(self, row: dict[str, Any]) -> None:
        """Count a row."""
        self.rows += 1
        error = row.get("error")
        if error is None:
            self.answered += 1
            if row["tokens_full"] is None or row["tokens_kept"] is None:
                self.uncounted += 1
            else:
                self.full, self.kept = self.full + row["tokens_full"], self.kept + row["tokens_kept"]
        else:
            self.errors[str(error).partition(":")[0]] += 1
            if len(self.failed) < NAMED:
                self.failed.append((row["id"], shortened(str(error))))
        if row.get("correct") is not None:
            number = self.media.setdefault(self.wanted[row["id"]], len(self.media))
            self.right.append((number, bool(row["correct"])))

    def summary(self, *, fresh: int, seconds: float, stopped: str = "") -> Summary:
        """Return the counts."""
        accuracy = share_right([medium for medium, _ in self.right], [right for _, right in self.right])
        return Summary(
            rows=self.rows,
            answered=self.answered,
            fresh=fresh,
            errors=dict(self.errors),
            accuracy=accuracy,
            known=len(self.right),
            tokens_full=self.full,
            tokens_kept=self.kept,
            seconds=seconds,
            stopped=stopped,
            failed=tuple(self.failed),
            uncounted=self.uncounted,
        )


def shortened(text: str) -> str:
    """`text` in at most `LONGEST` characters."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
