"""Which letter an answer says: the rules' findings, weighed."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass

from .letter_rules import (
    AGAINST,
    BEFORE,
    CLAUSE,
    CORRECTS,
    DENIES,
    FINAL,
    HINTS,
    LISTS,
    MORE,
    OPENLY,
    RULES,
    STATES,
)

_LONE = re.compile(
    r"[\s(\[{<$\"'\u201c*]*(?:(?:option|choice|answer|letter)\b\s*:?\s*)?[\s(\[{<$\"']*([A-Z])[\s.,;:!?)\]}>$\"'\u201d*]*",
    re.I,
)
_END = re.compile(r"[.!?\n\u3002\uff1f\uff01]")
NEAR = 60
"""Characters in front of a statement in which words about it are looked for."""
_QUESTION = "?\uff1f"


@dataclass(frozen=True)
class LetterStatement:
    """Letters that an answer states or denies.

    Attributes:
        letter: the one that it states; None: none, or not for certain.
        disputed: whether letters were stated that do not agree: what else it says settles nothing then.
        denied: letters that it says are not meant.
    """

    letter: str | None = None
    disputed: bool = False
    denied: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Finding:
    letter: str
    kind: str
    start: int
    end: int
    among: bool = False
    final: bool = False


def lone(text: str) -> str | None:
    """The letter that `text` is, with marks around it or not, and nothing else."""
    found = _LONE.fullmatch(text)
    return found[1].upper() if found else None


def letter_statement(text: str, letters: Collection[str]) -> LetterStatement:
    """Return which of `letters` the answer `text` states.

    Several letters are none, unless the last one is said to be final or to correct those before it. A letter that is
    denied and stated is none either, unless a correction stands between.
    """
    found = _findings(text, letters)
    denied = frozenset(one.letter for one in found if one.kind == DENIES)
    stated = [one for one in found if one.kind == STATES]
    if any(one.final for one in stated):
        stated = [one for one in stated if one.final]
    if stated:
        return _weighed(text, stated, found, denied, letters)
    hints = [one for one in found if one.kind == HINTS and one.letter in letters]
    listed = {one.letter for one in found if one.kind == LISTS and one.letter in letters}
    named = ({one.letter for one in hints} | (listed if hints else set())) - denied
    if len(named) == 1 and not any(one.among for one in hints):
        return LetterStatement(named.pop(), denied=denied)
    return LetterStatement(disputed=any(one.among for one in hints), denied=denied)


def _weighed(
    text: str, stated: list[_Finding], found: list[_Finding], denied: frozenset[str], letters: Collection[str]
) -> LetterStatement:
    last = stated[-1]
    others = [one for one in stated if one.letter != last.letter]
    contrary = [one for one in found if one.kind == DENIES and one.letter == last.letter]
    against = [*others, *contrary]
    after = any(one.start > last.start for one in contrary)
    corrected = bool(against) and not after and CORRECTS.search(text, max(one.end for one in against) - 1, last.end)
    retracted = {one.letter for one in others} <= denied and not contrary
    if last.among or last.letter not in letters or (against and not (corrected or retracted)):
        return LetterStatement(disputed=True, denied=denied)
    return LetterStatement(last.letter, denied=denied)


def _findings(text: str, letters: Collection[str]) -> list[_Finding]:
    """Return the findings of all rules in text order; where several match at a place, the first rule's."""
    found: dict[int, _Finding] = {}
    clauses = [0, *(cut.end() for cut in CLAUSE.finditer(text))]
    for rule in RULES:
        for match in rule.pattern.finditer(text):
            start = match.start(1)
            kind = _kind(rule.kind, text, match, clauses[bisect_right(clauses, match.start()) - 1])
            if kind is None or start in found:
                continue
            before = BEFORE.search(text, max(0, start - NEAR), start)
            beside = (before, MORE.match(text, match.end(1)), MORE.match(text, match.end()))
            among = any(one is not None and one[1] in letters for one in beside)
            final = kind == STATES and bool(FINAL.search(text, max(0, match.start() - NEAR), match.start()))
            found[start] = _Finding(match[1].upper(), kind, start, match.end(), among, final)
    return [found[start] for start in sorted(found)]


def _kind(kind: str, text: str, match: re.Match[str], clause: int) -> str | None:
    """Return the kind of a finding in its context: a question or supposition states nothing, a negation denies.

    Args:
        clause: where the clause begins in which the match does.
    """
    if kind in (DENIES, LISTS):
        return kind
    ended = _END.search(text, match.end(1))
    if ended and ended[0] in _QUESTION:
        return None
    before = text[clause : match.start(1)]
    if OPENLY.search(before):
        return None
    # The `not` of `not A but B`, with which the match itself begins, belongs to the other letter.
    turned = match[0].casefold().startswith("not")
    return DENIES if AGAINST.search(before) and not turned else kind
