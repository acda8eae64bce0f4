"""Answers in the form of OpenAI's: whole, in pieces, and what both say of tokens."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from .answering import ChatAnswer, PromptCounts

HEADER = "X-VTC-Report"
DONE = "data: [DONE]\n\n"


@dataclass(frozen=True)
class ResponseWriter:
    """Writes the answer to one request.

    Attributes:
        model: its name.
        id, created: of the answer.
    """

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, answer: ChatAnswer) -> dict[str, Any]:
        """A whole answer."""
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage(answer), "vtc": extra(answer)}

    def first(self) -> str:
        """The event that begins a stream."""
        return event(self._chunk({"role": "assistant", "content": ""}))

    def piece(self, text: str) -> str:
        """The event of some text."""
        return event(self._chunk({"content": text}))

    def last(self, answer: ChatAnswer, with_usage: bool) -> str:
        """The events that end a stream."""
        ends = event({**self._chunk({}, answer.reason), "vtc": extra(answer)})
        counts = {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(answer)}
        return ends + (event(counts) if with_usage else "") + DONE

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def event(data: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(data)}\n\n"


def usage(answer: ChatAnswer) -> dict[str, Any]:
    """Tokens: of the prompt those that were read, and beside them what the stock model would have read."""
    counts, report = answer.counts, answer.counts.report
    return {
        "prompt_tokens": counts.prompt,
        "completion_tokens": answer.tokens,
        "total_tokens": counts.prompt + answer.tokens,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "visual_tokens": report.after,
            "visual_tokens_full": report.before,
            "prompt_tokens_full": counts.full,
        },
    }


def summary(counts: PromptCounts) -> dict[str, Any]:
    """What was left out, in a few numbers."""
    report = counts.report
    found = {
        "recipe": report.recipe,
        "keep": counts.keep,
        "before": report.before,
        "after": report.after,
        "prompt_before": counts.full,
        "prompt_after": counts.prompt,
    }
    return found if report.decoder is None else {**found, "mean_in_layers": round(report.decoder.mean, 1)}


def extra(answer: ChatAnswer) -> dict[str, Any]:
    """The field `vtc` of an answer."""
    return {**summary(answer.counts), "notes": list(answer.notes)}


def header(counts: PromptCounts) -> dict[str, str]:
    """`summary` as a header, in ASCII on one line."""
    return {HEADER: json.dumps(summary(counts), separators=(",", ":"))}
