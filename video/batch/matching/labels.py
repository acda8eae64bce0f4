"""The letters of options: those that they bear already, or A, B, C by their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

_SPACED = re.compile(r"\s*[(\[]?([A-Z])(?:[)\]][.:]?|[.:])\s+(\S.*?)\s*", re.DOTALL)
_TIGHT = re.compile(r"\s*[(\[]?([A-Za-z])(?:[)\].:\u3001\uff0e\uff1a\uff09]+\s*(.*?))?\s*", re.DOTALL)


@dataclass(frozen=True)
class Labels:
    """How options are lettered.

    Attributes:
        letters: of each option, in their order, upper case.
        texts: the options without letters of their own.
        own: whether the options bore the letters.
    """

    letters: tuple[str, ...]
    texts: tuple[str, ...]
    own: bool

    @classmethod
    def of(cls, choices: Sequence[str]) -> Labels:
        """The letters that all of `choices` bear, each another one; else A, B, C by their order.

        Out of order, only a capital with a sign and a blank behind it is a letter of an option: `A. red`, not `a.m.`.

        Raises:
            ValueError: more options than letters.
        """
        if len(choices) > len(ascii_uppercase):
            raise ValueError(f"choices: {len(choices)} of them; expected {len(ascii_uppercase)} at most, one a letter")
        ordered = tuple(ascii_uppercase[: len(choices)])
        for pattern, anyhow in ((_SPACED, True), (_TIGHT, False)):
            found = [pattern.fullmatch(choice) for choice in choices]
            borne = tuple(one[1].upper() for one in found if one is not None)
            if len(borne) < len(choices) or len(set(borne)) < len(borne) or not (anyhow or borne == ordered):
                continue
            texts = tuple(one[2] or one[1] for one in found if one is not None)
            return cls(borne, texts, own=True)
        return cls(ordered, tuple(choices), own=False)

    def lines(self, choices: Sequence[str]) -> list[str]:
        """The options as they are put to a model, a line each."""
        if self.own:
            return [choice.strip() for choice in choices]
        return [f"{letter}. {text}" for letter, text in zip(self.letters, choices, strict=True)]

    def place(self, letter: str) -> int | None:
        """Return which option has `letter`."""
        return self.letters.index(letter.upper()) if letter.upper() in self.letters else None
