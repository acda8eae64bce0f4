"""Formats answers for the page, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from .inference import Pair
from .streaming import StreamState

HEADER = ("", "all tokens", "reduced")
NONE = "–"  # noqa: RUF001 - a dash for what is not known yet
FIRST_CALL = (
    "Times are of this answer alone: from the call of generate, encoder and selection included. KV bytes are of the "
    "prompt, by arithmetic from the model's config."
)
WARM = (
    "Times are {of} of either kind, taken in turns: from the call of generate, encoder and "
    "selection included. KV bytes are of the prompt, by arithmetic from the model's config."
)
CLEAR = 1.05
"""How many times faster counts as faster: less is within what two runs differ by."""


def table(pair: Pair) -> list[list[str]]:
    """The numbers of both answers, a row each: what, with all tokens, reduced."""
    full, short, report = pair.full, pair.short, pair.short.report
    after = pair.tokens.after if report is None else report.after
    prompt = pair.prompt - pair.tokens.before + after
    return [
        ["visual tokens", f"{pair.tokens.before:,}", f"{after:,}"],
        ["prompt tokens", f"{pair.prompt:,}", f"{prompt:,}"],
        ["time to first token", *map(seconds, _first(pair))],
        ["tokens per second", *map(rate, _rates(pair))],
        ["KV cache of the prompt", size(pair.kv_full), NONE if pair.kv_short is None else size(pair.kv_short)],
        ["answer tokens", f"{full.tokens}", f"{short.tokens}"],
        ["image or video encoded", encoding(full), encoding(short)],
    ]


def _first(pair: Pair) -> tuple[float | None, float | None]:
    return (pair.full.first, pair.short.first) if pair.times is None else (pair.times[0].first, pair.times[1].first)


def _rates(pair: Pair) -> tuple[float | None, float | None]:
    if pair.times is None:
        return pair.full.rate, pair.short.rate
    return 1 / pair.times[0].next, 1 / pair.times[1].next


def headline(pair: Pair) -> str:
    """What the reduced answer saved, in a line; empty before it is done."""
    report = pair.short.report
    if report is None or not report.after or pair.kv_short is None:
        return ""
    kept = f"{report.after:,} of {pair.tokens.before:,}"
    parts = [f"**{_times(pair.tokens.before / report.after)} fewer visual tokens** ({kept})"]
    if pair.times is not None:
        full, short = pair.times
        parts.append(_faster(full.first / short.first, bool(pair.apart)))
    if pair.kv_short:
        parts.append(
            f"{_times(pair.kv_full / pair.kv_short)} less KV cache ({size(pair.kv_short)} of {size(pair.kv_full)})"
        )
    return ", ".join(parts) + ("; timing ..." if pair.measuring else "")


def _faster(times: float, apart: bool) -> str:
    if not apart:
        return "as soon to the first token, within what these runs differ by"
    if times >= CLEAR:
        return f"**{_times(times)} sooner** to the first token"
    if times > 1 / CLEAR:
        return "as soon to the first token (a wrapped call costs as much as the shorter prompt saves)"
    return f"**{_times(1 / times)} later** to the first token (a wrapped call costs more than the shorter prompt saves)"


def _times(value: float) -> str:
    return f"{value:.1f} x"


def times_note(pair: Pair) -> str:
    """How the times of the table were taken."""
    if pair.times is None:
        return FIRST_CALL
    return WARM.format(of=f"medians of {pair.rounds} warm runs" if pair.rounds > 1 else "one warm run")


def strategy_headline(pair: Pair) -> str:
    """What was saved over all calls of the model that both answers by a strategy took; empty before they are done."""
    full, short = (sum(call.tokens_kept for call in calls) for calls in (pair.full_calls, pair.short_calls))
    if not (pair.done and full and short):
        return ""
    return f"**{_times(full / short)} fewer visual tokens** over all calls ({short:,} of {full:,})"


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
    return NONE if not update.done else "kept from before" if update.reused else "for this answer"


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
