"""Multiple choice: how choices are put to a model, which one its answer picks, and whether that is right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from .questions import Question

ORDER = "Answer with the option's letter from the given choices directly."
_LETTER = re.compile(r"^\W*(?:(?:the )?(?:answer|option|choice)(?: is)?:?\s*)?\(?([A-Z])(?:[).:,\s]|$)", re.IGNORECASE)


def prompt_of(question: Question, listed: bool = True) -> str:
    """What the model is asked: the question, and where there are choices and they are `listed`, those by letter."""
    if not question.choices or not listed:
        return question.question
    lines = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, question.choices, strict=False)]
    return "\n".join([question.question, *lines, ORDER])


def picked(answer: str, choices: Sequence[str]) -> str | None:
    """The choice that `answer` picks: by its whole text, by its letter, or as the only one named; None if none is."""
    plain = [normal(text) for text in choices]
    said = normal(answer)
    if plain.count(said) == 1:
        return choices[plain.index(said)]
    letter = _LETTER.match(answer.strip())
    # "A dog" begins with a word, not with a letter: more than one word after it must name no choice.
    if letter and (place := ascii_uppercase.index(letter[1].upper())) < len(choices):
        bare = not answer.strip()[letter.end(1) :].strip(" ).:,")
        if bare or answer.strip()[letter.end(1) : letter.end(1) + 1] in (")", ".", ":", ","):
            return choices[place]
    named = [i for i, text in enumerate(plain) if text and re.search(rf"\b{re.escape(text)}\b", said)]
    return choices[named[0]] if len(named) == 1 else None


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
    plain = [normal(text) for text in question.choices]
    if normal(given) in plain:
        return question.choices[plain.index(normal(given))]
    letter = given.strip().strip("().").upper()
    if len(letter) == 1 and letter in ascii_uppercase[: len(question.choices)]:
        return question.choices[ascii_uppercase.index(letter)]
    raise ValueError(f"answer={given!r} is none of choices={list(question.choices)}; give its text or its letter")


def normal(text: str) -> str:
    """`text` without case, articles, punctuation and needless blanks."""
    words = re.sub(r"[^\w\s]", " ", text.casefold()).split()
    return " ".join(word for word in words if word not in ("a", "an", "the")) or " ".join(words)
