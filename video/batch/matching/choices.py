"""Multiple choice: how choices are put to a model, which one its answer picks, and whether that is right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .answer_text import final_text
from .free_text import named, normal
from .labels import Labels
from .letter_rules import STATED_AT_END
from .statements import letter_statement, lone

if TYPE_CHECKING:
    from vtc.video.batch.questions import Question

_LETTERED = re.compile(r"\(?([A-Za-z])\)?[).:]?(?:\s+(.*\S)\s*)?", re.DOTALL)
ORDER = "Answer with the option's letter from the given choices directly."


def prompt_of(question: Question, listed: bool = True) -> str:
    """Return the prompt text: the question, and the choices by letter where they are `listed`.

    Options that bear their letters are put as they are.

    Raises:
        ValueError: more choices than letters.
    """
    if not question.choices or not listed:
        return question.question
    lines = Labels.of(question.choices).lines(question.choices)
    return "\n".join([question.question, *lines, ORDER])


def picked(answer: str, choices: Sequence[str], listed: bool = True) -> str | None:
    """The choice that `answer` picks: by its letter where the model was shown letters, by its whole text, or as the
    only one that it names; None if none is, or if that is not certain.

    What is read is the answer without its thoughts, see `answer_text.final_text`; letters are read by the rules of
    `letter_rules`.
    """
    labels, text = Labels.of(choices), final_text(answer)
    if text is None:
        return None
    place = _place(text, choices, labels, listed)
    return None if place is None else choices[place]


def _place(text: str, choices: Sequence[str], labels: Labels, listed: bool) -> int | None:
    if listed and (letter := lone(text)) is not None:
        return labels.place(letter)
    whole = _whole(text, choices, labels)
    if len(whole) == 1:
        return whole[0]
    statement = letter_statement(text, labels.letters) if listed else None
    stated = [found[1] for found in STATED_AT_END.finditer(text) if not (listed and lone(found[1]))]
    option_places = {place for one in stated for place in _whole(one, choices, labels)}
    if statement is not None and statement.letter is not None:
        place = labels.place(statement.letter)
        return place if option_places <= {place} and not _contradicted(text, statement.letter, labels) else None
    if statement is not None and statement.disputed:
        return None
    found = sorted(option_places) if len(option_places) == 1 else named(text, labels.texts)
    return found[0] if len(found) == 1 else None


def _contradicted(text: str, letter: str, labels: Labels) -> bool:
    """Return whether the text of another option stands right behind `letter`, as in `B. red` where B is blue."""
    own = labels.place(letter)
    for line in text.splitlines():
        before, sign, rest = line.partition(letter)
        if not sign or before.strip(" ([") or not rest[:1] or rest[0].isalnum():
            continue
        others = [i for i, other in enumerate(labels.texts) if normal(other) == normal(rest)]
        if others and own not in others:
            return True
    return False


def _whole(text: str, choices: Sequence[str], labels: Labels) -> list[int]:
    """The choices that are `text`: exactly if there are such, else but for what `normal` takes away."""
    exact = [i for i, choice in enumerate(choices) if text.strip() in (choice.strip(), labels.texts[i].strip())]
    close = [i for i, choice in enumerate(choices) if normal(text) in (normal(choice), normal(labels.texts[i]))]
    return exact or close


def correct(answer: str, choice: str | None, question: Question) -> bool | None:
    """Return whether the answer is the right one; None where that is not known.

    With choices the picked one counts, else the whole text, but for what `normal` takes away.

    Raises:
        ValueError: the right answer is none of the choices.
    """
    if question.answer is None:
        return None
    if not question.choices:
        return normal(final_text(answer) or "") == normal(question.answer)
    return choice == right(question)


def right(question: Question) -> str:
    """The right one of the choices, given by its text, or else by its letter, with or without the text behind it.

    Raises:
        ValueError: it is none of them, or more than one.
    """
    given, choices = str(question.answer), question.choices
    labels = Labels.of(choices)
    whole = _whole(given, choices, labels)
    if len(whole) == 1:
        return choices[whole[0]]
    lettered = _LETTERED.fullmatch(given.strip())
    place = labels.place(lettered[1]) if lettered else None
    if lettered and place is not None and normal(lettered[2] or labels.texts[place]) == normal(labels.texts[place]):
        return choices[place]
    many = "more than one" if whole else "none"
    raise ValueError(f"answer={given!r} is {many} of choices={list(choices)}; give its text or its letter")
