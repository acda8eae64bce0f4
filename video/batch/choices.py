"""Multiple choice: how choices are put to a model, which one its answer picks, and whether that is right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING

from .matching import named, normal

if TYPE_CHECKING:
    from .questions import Question

ORDER = "Answer with the option's letter from the given choices directly."
_MARKS = r"[\s*_`\"'(\[{$]*"
_ALONE = re.compile(rf"{_MARKS}(?:(?:option|choice|answer)\b[:\s]*)?{_MARKS}([A-Z])[\s.,;:!?)\]}}*_`\"'$]*", re.I)
_FIRST = re.compile(
    rf"{_MARKS}(?:(?:option|choice|answer)\b[:\s]*)?{_MARKS}([A-Z])(?:[*_`\"')\]}}]*[).:\]]|\s*\n|\s+[-\u2013])", re.I
)
_TOLD = re.compile(
    rf"\b(?:answer|option|choice)\b(?:\s+is|\s+would be|\s+should be)?[:=\s]*{_MARKS}(?:(?:option|choice)\s+)?{_MARKS}"
    r"([A-Z])(?![\w'])(?!\s+(?!because|since|as\b|is\b|not\b|and\b)[a-z])"
)
_BOXED = re.compile(r"\\boxed\{\W*(?:\\text\{)?\W*([A-Z])\W*\}")
_IS_RIGHT = re.compile(rf"{_MARKS}([A-Z])\W*\s+is\s+(?:the\s+)?(?:correct|right|best|answer)\b")


def prompt_of(question: Question, listed: bool = True) -> str:
    """What the model is asked: the question, and where there are choices and they are `listed`, those by letter."""
    if not question.choices or not listed:
        return question.question
    lines = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, question.choices, strict=False)]
    return "\n".join([question.question, *lines, ORDER])


def picked(answer: str, choices: Sequence[str], listed: bool = True) -> str | None:
    """The choice that `answer` picks: by its letter where the model was told of letters, by its whole text, or as the
    only one that it names; None if none is."""
    letter = _letter(answer, len(choices)) if listed else None
    if letter is not None and _ALONE.fullmatch(answer):
        return choices[letter]
    whole = _whole(answer, choices)
    if len(whole) == 1:
        return whole[0]
    if letter is not None:
        return choices[letter]
    found = named(answer, choices)
    return choices[found[0]] if len(found) == 1 else None


def _letter(answer: str, count: int) -> int | None:
    """The place of the letter that `answer` says, among `count`; None where it says none, or more than one."""
    if alone := _ALONE.fullmatch(answer):
        found = [alone[1]]
    elif first := _FIRST.match(answer):
        found = [first[1]]
    else:
        found = [said[-1] for rule in (_BOXED, _TOLD, _IS_RIGHT) if (said := rule.findall(answer))][:1]
    places = [ascii_uppercase.index(letter.upper()) for letter in found]
    return places[0] if places and places[0] < count else None


def _whole(text: str, choices: Sequence[str]) -> list[str]:
    """The choices that are `text`: exactly if there are such, else but for what `normal` takes away."""
    exact = [choice for choice in choices if choice.strip() == text.strip()]
    return exact or [choice for choice in choices if normal(choice) == normal(text)]


def correct(answer: str, choice: str | None, question: Question) -> bool | None:
    """Whether the answer is the right one; None where that is not known.

    With choices the picked one counts, else the whole text, but for what `normal` takes away.

    Raises:
        ValueError: the right answer is none of the choices.
    """
    if question.answer is None:
        return None
    if not question.choices:
        return normal(answer) == normal(question.answer)
    return choice == right(question)


_LETTERED = re.compile(r"\(?([A-Za-z])\)?[).:]?(?:\s+(.*\S)\s*)?", re.DOTALL)


def right(question: Question) -> str:
    """The right one of the choices, given by its text, or else by its letter, with or without the text behind it.

    Raises:
        ValueError: it is none of them, or more than one.
    """
    given, choices = str(question.answer), question.choices
    whole = _whole(given, choices)
    if len(whole) == 1:
        return whole[0]
    lettered = _LETTERED.fullmatch(given.strip())
    place = ascii_uppercase.index(lettered[1].upper()) if lettered else len(choices)
    if lettered and place < len(choices) and normal(lettered[2] or choices[place]) == normal(choices[place]):
        return choices[place]
    many = "more than one" if whole else "none"
    raise ValueError(f"answer={given!r} is {many} of choices={list(choices)}; give its text or its letter")
