"""Formats answers for the page, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from .inference import Pair
from .streaming import StreamState

HEADER = ("", "all tokens", "reduced")
NONE = "–"  # noqa: RUF001 - a dash for what is not known yet
FIRST_CALL = (
    "Times are from the call of generate, the encoder and the selection in the first of them; a first call also "
    "loads what is loaded once. KV bytes are of the prompt, by arithmetic from the model's config."
)


def table(pair: Pair) -> list[list[str]]:
    """The numbers of both answers, a row each: what, with all tokens, reduced."""
    full, short, report = pair.full, pair.short, pair.short.report
    after = pair.tokens.after if report is None else report.after
    prompt = pair.prompt - pair.tokens.before + after
    return [
        ["visual tokens", f"{pair.tokens.before:,}", f"{after:,}"],
        ["prompt tokens", f"{pair.prompt:,}", f"{prompt:,}"],
        ["time to first token", seconds(full.first), seconds(short.first)],
        ["tokens per second", rate(full.rate), rate(short.rate)],
        ["KV cache of the prompt", size(pair.kv_full), NONE if pair.kv_short is None else size(pair.kv_short)],
        ["answer tokens", f"{full.tokens}", f"{short.tokens}"],
        ["encoding", encoding(full), encoding(short)],
    ]


def strategy_table(pair: Pair) -> list[list[str]]:
    """The numbers of both answers by a strategy, over all calls of the model that each took."""
    calls = pair.full_calls, pair.short_calls
    full, short = sum(call.tokens_kept for call in calls[0]), sum(call.tokens_kept for call in calls[1])
    spent = (seconds(sum(call.seconds for call in some)) if some else NONE for some in calls)
    return [
        ["calls of the model", *(f"{len(some)}" for some in calls)],
        ["visual tokens, all calls", f"{full:,}", f"{short:,}"],
        ["seconds, all calls", *spent],
        ["answer tokens, all calls", f"{pair.full.tokens}", f"{pair.short.tokens}"],
    ]


def call_notes(pair: Pair) -> list[str]:
    """Intermediate calls of both answers, as text."""
    named = (("all tokens", pair.full_calls), ("reduced", pair.short_calls))
    return [f"{name}, {call.purpose}: {call.text}" for name, calls in named for call in calls]


def encoding(update: StreamState) -> str:
    """Return where the encoder's answer came from."""
    return NONE if not update.done else "reused" if update.reused else "made"


def seconds(value: float | None) -> str:
    """Seconds, in milliseconds below one."""
    if value is None:
        return NONE
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.0f} ms"


def rate(value: float | None) -> str:
    """Tokens a second."""
    return NONE if value is None else f"{value:.1f}"


def size(count: int) -> str:
    """Bytes, in the unit that gives the number three figures."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} TiB"


def notes(lines: Sequence[str], pair: Pair | None = None) -> str:
    """The notes as a Markdown list; of a pair that was stopped, that it was."""
    stopped = pair is not None and (pair.full.stopped or pair.short.stopped)
    return "\n".join(f"- {plain(line)}" for line in (*lines, *(["stopped"] if stopped else [])))


def plain(text: str) -> str:
    """`text` with the marks of Markdown and HTML made harmless."""
    for mark in "\\`*_[]#|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
