"""Multiple choice: how choices are put to a model, which one its answer picks, and whether that is right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .questions import Question

ORDER = "Answer with the option's letter from the given choices directly."
_LETTER = re.compile(r"^\W*(?:(?:the )?(?:answer|option|choice)(?: is)?:?\s*)?\(?([A-Z])(?:[).:,\s]|$)", re.IGNORECASE)

_AROUND = ".,;:!?\u2026\"'`\u00b4\u2018\u2019\u201c\u201d\u00ab\u00bb()[]{}\u00bf\u00a1"
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])|[_\u2013\u2014]")


def prompt_of(question: Question, listed: bool = True) -> str:
    """What the model is asked: the question, and where there are choices and they are `listed`, those by letter."""
    if not question.choices or not listed:
        return question.question
    lines = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, question.choices, strict=False)]
    return "\n".join([question.question, *lines, ORDER])


def picked(answer: str, choices: Sequence[str]) -> str | None:
    """The choice that `answer` picks: by its whole text, by its letter, or as the only one named; None if none is."""
    whole = _whole(answer, choices)
    if whole is not None:
        return whole
    letter = _LETTER.match(answer.strip())
    # "A dog" begins with a word, not with a letter: more than one word after it must name no choice.
    if letter and (place := ascii_uppercase.index(letter[1].upper())) < len(choices):
        bare = not answer.strip()[letter.end(1) :].strip(" ).:,")
        if bare or answer.strip()[letter.end(1) : letter.end(1) + 1] in (")", ".", ":", ","):
            return choices[place]
    said = normal(answer).split()
    named = [text for text in choices if _within(normal(text).split(), said)]
    return named[0] if len(named) == 1 else None


def _whole(text: str, choices: Sequence[str]) -> str | None:
    """The one choice that is `text`: exactly, else but for what `normal` takes away; None where it is not just one."""
    exact = [choice for choice in choices if choice.strip() == text.strip()]
    alike = [choice for choice in choices if normal(choice) == normal(text)]
    found = exact or alike
    return found[0] if len(found) == 1 else None


def _within(words: Sequence[str], text: Sequence[str]) -> bool:
    """Whether `words`, which are some, stand in `text` one behind the other."""
    return bool(words) and any(text[i : i + len(words)] == words for i in range(len(text) - len(words) + 1))


def correct(answer: str, choice: str | None, question: Question) -> bool | None:
    """Whether the answer is the right one; None where that is not known.

    With choices the picked one counts, else the whole text, but for case, articles and punctuation.

    Raises:
        ValueError: the right answer is none of the choices.
    """
    if question.answer is None:
        return None
    if not question.choices:
        return normal(answer) == normal(question.answer)
    return choice == right(question)


def right(question: Question) -> str:
    """The right one of the choices, given by its text or its letter.

    Raises:
        ValueError: it is none of them.
    """
    given = str(question.answer)
    whole = _whole(given, question.choices)
    if whole is not None:
        return whole
    letter = given.strip().strip("().").upper()
    if len(letter) == 1 and letter in ascii_uppercase[: len(question.choices)]:
        return question.choices[ascii_uppercase.index(letter)]
    raise ValueError(f"answer={given!r} is none of choices={list(question.choices)}; give its text or its letter")


def normal(text: str) -> str:
    """`text` without case, articles, needless blanks, and the punctuation around words: not what is a sign, as in -5
    and C++."""
    words = [word.strip(_AROUND) for word in _HYPHEN.sub(" ", text.casefold()).split()]
    words = [word for word in words if word]
    return " ".join(word for word in words if word not in ("a", "an", "the")) or " ".join(words)
