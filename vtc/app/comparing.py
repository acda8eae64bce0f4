"""One question over several recipes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vtc.embedded.exam import exact
from vtc.embedded.samples import true_answer
from vtc.inference.asking import Seconds

from .formatting import (
    NONE,
    rate,
    seconds,
    size,
)
from .inference import (
    MediumQuestion,
    Pair,
    ask,
    interleaved,
    middle,
    prepared,
)
from .state import AppState
from .streaming import InferenceLock

HEADER = ("recipe", "answer", "visual tokens", "time to first token", "tokens per second", "KV cache")
MOST = 12
"""Recipes in one comparison."""
ALL = "all tokens"


@dataclass(frozen=True)
class ComparisonRow:
    """One recipe.

    Attributes:
        recipe: its name, or `ALL`.
        answer: what the model said.
        tokens: visual tokens that reached the language model.
        first: seconds to the first token; None where there was none.
        rate: tokens a second behind it; None where there are fewer than two.
        kv: bytes of keys and values of the prompt.
        right: whether the answer is the true one, where that is known: of packaged samples.
    """

    recipe: str
    answer: str
    tokens: int
    first: float | None
    rate: float | None
    kv: int
    right: bool | None = None

    def cells(self) -> list[str]:
        """The row as text, see `HEADER`."""
        mark = {True: " ✓", False: " ✗", None: ""}[self.right]
        times = (seconds(self.first), rate(self.rate))
        return [self.recipe, f"{self.answer or NONE}{mark}", f"{self.tokens:,}", *times, size(self.kv)]


def compared(
    state: AppState, question: MediumQuestion, recipes: Sequence[str], stop: threading.Event
) -> Iterator[list[ComparisonRow]]:
    """The rows so far, each time one more is done: all tokens first, then `recipes` in their order.

    Every recipe is checked before the first model runs. At the end the rows come once more with medians of warm runs,
    taken in turns, each of which encodes again.

    Raises:
        OSError, ValueError: no recipe, too many of them, or what `prepared` says of one.
    """
    names = list(dict.fromkeys(recipes))
    if not 1 <= len(names) <= MOST:
        raise ValueError(f"recipes={names}: {len(names)} of them; choose 1 to {MOST}")
    asked = [prepared(state, replace(question, recipe=name)) for name in names]
    inference = InferenceLock(state.inference.lock, None)
    truth = None if question.path is None else true_answer(question.path, question.text)
    rows, pair = list[ComparisonRow](), asked[0].start
    for one in asked:
        full = pair.full if rows else None
        pair = deque(ask(inference, one, question.max_new_tokens, stop, full), maxlen=1).pop()
        if stop.is_set():
            return
        rows = [*(rows or [_judged(_full(pair), truth)]), _judged(_short(pair), truth)]
        yield rows
    calls = [(asked[0].inputs, None), *((one.inputs, one.start.recipe) for one in asked)]
    times = interleaved(inference, asked[0].loaded.model, calls, stop)
    if times[0]:
        yield [_timed(row, middle(taken)) for row, taken in zip(rows, times, strict=True)]


def _timed(row: ComparisonRow, times: Seconds) -> ComparisonRow:
    return replace(row, first=times.first, rate=1 / times.next)


def _judged(row: ComparisonRow, truth: str | None) -> ComparisonRow:
    return row if truth is None else replace(row, right=exact(row.answer, truth))


def _full(pair: Pair) -> ComparisonRow:
    return ComparisonRow(ALL, pair.full.text, pair.tokens.before, pair.full.first, pair.full.rate, pair.kv_full)


def _short(pair: Pair) -> ComparisonRow:
    report = pair.short.report
    assert report is not None
    kv = pair.kv_full - report.bytes_saved
    return ComparisonRow(pair.recipe.name, pair.short.text, report.after, pair.short.first, pair.short.rate, kv)
