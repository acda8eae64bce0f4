"""The text of an answer while `generate` makes it, up to the first text that ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

UNFINISHED = "\ufffd"
"""What a tokenizer writes for a character of which bytes are missing yet."""


class AnswerStream:
    """A streamer of `generate`, and its stopping criterion.

    Pieces add up to the text of the whole answer: all tokens are decoded together each time.

    Args:
        tokenizer: of the model.
        stop: texts before which the answer ends.
        ended: whether nobody waits for the answer any more.
        on_start: called once the first token is there.
        on_text: called with each piece of text.
    """

    def __init__(
        self,
        tokenizer: Any,
        stop: Sequence[str],
        ended: Callable[[], bool],
        on_start: Callable[[], None],
        on_text: Callable[[str], None],
    ) -> None:
        self._tokenizer, self._stop, self._ended = tokenizer, tuple(stop), ended
        self._on_start, self._on_text = on_start, on_text
        self._prompt_seen = False
        self._passed_on = self._raw = ""
        self.tokens: list[int] = []
        self.text = ""
        self.matched = False

    def put(self, value: torch.Tensor) -> None:
        """Called by `generate`, first with the prompt and then with each token."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self.tokens += value.flatten().tolist()
        if len(self.tokens) == 1:
            self._on_start()
        self._read()
        self._pass_on(self._certain())

    def end(self) -> None:
        """Called by `generate` when it is done: what was held back is passed on."""
        self._pass_on(self.text)

    def stopping(self, ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """`[B]` bool, for `stopping_criteria`."""
        return torch.full((len(ids),), self.matched or self._ended(), dtype=torch.bool, device=ids.device)

    def _read(self) -> None:
        self._raw = self._tokenizer.decode(self.tokens, skip_special_tokens=True)
        ends = [place for text in self._stop if (place := self._raw.find(text)) >= 0]
        self.matched = bool(ends)
        self.text = (self._raw[: min(ends)] if ends else self._raw).strip()

    def _certain(self) -> str:
        """The text without an end that more tokens may change: half a character, or half a text that ends it."""
        if self.matched:
            return self.text
        raw = self._raw.rstrip(UNFINISHED)
        begun = [size for stop in self._stop for size in range(1, len(stop)) if raw.endswith(stop[:size])]
        return raw[: len(raw) - max(begun, default=0)].strip()

    def _pass_on(self, text: str) -> None:
        if len(text) > len(self._passed_on) and text.startswith(self._passed_on):
            piece, self._passed_on = text[len(self._passed_on) :], text
            self._on_text(piece)
