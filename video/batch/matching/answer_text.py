"""Extracts the final answer of a model: without its thoughts, out of tags, JSON and markup."""

from __future__ import annotations

import re

from vtc.core.json_text import loads

_NAMES = r"(?:seed:)?(?:think|thinking|thought|thoughts|reason|reasoning|reflection|analysis|scratchpad)"
_THOUGHTS = tuple(
    (re.compile(begin, re.I), re.compile(end, re.I))
    for begin, end in (
        (rf"<{_NAMES}>", rf"</{_NAMES}>"),
        (r"\[think\]", r"\[/think\]"),
        (r"\u25c1think\u25b7", r"\u25c1/think\u25b7"),
        (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    )
)
"""How models mark the beginning and the end of what is no part of their answer."""
_TAGS = tuple(
    (re.compile(begin, re.I), re.compile(end, re.I))
    for begin, end in (
        (r"<(?:final_?)?(?:answer|response|solution|choice|output)>", r"</(?:final_?)?\w+>"),
        (r"<\|begin_of_(?:box|solution)\|>", r"<\|end_of_(?:box|solution)\|>"),
        (r"\[answer\]", r"\[/answer\]"),
    )
)
"""How they mark the answer itself."""
_KEYS = ("final_answer", "answer", "correct_answer", "choice", "option", "selected_option", "letter", "response")
_OBJECT = re.compile(r"\{[^{}]*\}")
_STOPS = re.compile(r"</s>|<\|[a-z_]+\|>|<(?:end_of_turn|eos|pad)>", re.I)
_NEXT_TURN = re.compile(r"(?<=\S)\s*^[ \t]*(?:question|user|human|q)[ \t]*:", re.I | re.M)
"""Where a model goes on with a question of its own."""
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)\w*[ \t]*$", re.M)
_LATEX = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mathsf|operatorname)\s*\{([^{}]*)\}")
_DECORATION = re.compile(r"\*+|`+|(?<![^\W_])_{1,3}(?=\S)|(?<=\S)_{1,3}(?![^\W_])|^[ \t]*#{1,6}[ \t]+", re.M)


def final_text(answer: str) -> str | None:
    """Return the final answer in `answer`; None where its own tags hold more than one.

    Thoughts are left out, and where one is never closed all that follows it. Of an answer in a tag or in a JSON object,
    what stands in there is left, and of emphasis, headings and code the words.
    """
    text = without_thoughts(answer)
    if further := _NEXT_TURN.search(text):
        text = text[: further.start()]
    tagged = {part.strip() for begin, end in _TAGS for part in _within(text, begin, end)}
    if len(tagged) > 1:
        return None
    text = tagged.pop() if tagged else text
    text = _STOPS.sub("", _FENCE.sub("", text))
    named = _in_json(text)
    if len(named) > 1:
        return None
    text = named.pop() if named else text
    return _DECORATION.sub("", _LATEX.sub(r"\1", text)).strip()


def without_thoughts(answer: str) -> str:
    """`answer` without what is marked as thoughts; a mark of the end alone closes what stood in the prompt."""
    for begin, end in _THOUGHTS:
        closed = list(end.finditer(answer))
        if closed:
            before = begin.search(answer)
            kept = answer[: before.start()] if before and before.start() < closed[-1].start() else ""
            answer = kept + answer[closed[-1].end() :]
        if opened := begin.search(answer):
            answer = answer[: opened.start()]
    return answer.strip()


def _within(text: str, begin: re.Pattern[str], end: re.Pattern[str]) -> list[str]:
    """Return the text within each pair of tags, and behind one that is not closed."""
    found = []
    while opened := begin.search(text):
        text = text[opened.end() :]
        closed = end.search(text)
        found.append(text[: closed.start()] if closed else text)
    return found


def _in_json(text: str) -> set[str]:
    """The values of answers in the JSON objects of `text`."""
    found: set[str] = set()
    for candidate in _OBJECT.findall(text):
        try:
            given = loads(candidate)
        except ValueError:
            continue
        folded = {str(key).casefold().replace(" ", "_"): value for key, value in given.items()}
        letter_statement = [folded[key] for key in _KEYS if isinstance(folded.get(key), (str, int, float))]
        found.update(str(value).strip() for value in letter_statement[:1])
    return found
