"""Texts compared as people compare answers: without case, articles, markup and punctuation; signs that count stay."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import accumulate

_MARKUP = re.compile(r"</?(?:b|i|u|em|strong|code|p|br|span)\b[^<>]*>|\\(?:boxed|text|textbf|mathrm|mathbf)\b", re.I)
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-") | {"\u2019": "'"})
_TOKEN = re.compile(
    r"(?<![\w.])[-+]?(?:\d+(?:[.,:/]\d+)*|\.\d+)(?!\w)"  # a number, its sign too
    r"|[^\W_](?:[\w']*[^\W_])?(?:\+\+|#)?"  # a word, or C++ and C#
    r"|(?<=\d)['\"]|[%\u00b0+=<>]"  # feet, inches, and signs that make a difference
)
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NUMBER = re.compile(r"([-+]?)(\d*)(\.\d*)?")
NEGATIONS = frozenset(
    ["not", "no", "never", "neither", "nor", "cannot", "without", "except", "unlike", "if", "whether", "unless"]
    + [f"{verb}n't" for verb in ("is", "are", "was", "were", "does", "do", "did", "ca", "wo", "would", "could", "has")]
)
"""Behind one of these, up to the end of the clause, nothing is named."""
_PREFERRED = re.compile(r"\b(?:rather\s+than|instead\s+of)\b", re.I)
_CLAUSE = re.compile(r"[.,;:!?](?=\s|$)|\n|\b(?:but|so|therefore|thus|hence|because)\b", re.I)


def words(text: str) -> list[str]:
    """Normalise `text` for comparison: its words and numbers in order, and the signs that make a difference."""
    plain = _MARKUP.sub(" ", unicodedata.normalize("NFC", text)).translate(_DASHES)
    found = [token for token in _TOKEN.findall(plain) if token]
    kept = [token for i, token in enumerate(found) if not _is_article(token, i, len(found))]
    return [_canonical(token) for token in kept]


def normal(text: str) -> str:
    """`words` as one text; of a text without any, such as a sign alone, what it is but for blanks and case."""
    return " ".join(words(text)) or " ".join(text.casefold().split())


def named(text: str, options: Sequence[str]) -> list[int]:
    """Return which of `options` stand in `text`, without those inside of a longer one that does, or behind a `not`.

    A word that negates does so up to the end of its clause, as `rather than` does.
    """
    clauses = [words(clause) for clause in _CLAUSE.split(_PREFERRED.sub("not", text))]
    letter_statement: list[str | None] = [word for clause in clauses for word in clause]
    begins = [start for clause, start in zip(clauses, _starts(clauses), strict=True) for _ in clause]
    found, whole = [], list(letter_statement)
    for i in sorted(range(len(options)), key=lambda i: -len(words(options[i]))):
        wanted = words(options[i])
        places = [
            p
            for p in range(len(letter_statement) - len(wanted) + 1)
            if wanted and letter_statement[p : p + len(wanted)] == wanted
        ]
        if any(not NEGATIONS.intersection(whole[begins[place] : place]) for place in places):
            found.append(i)
        for place in places:
            letter_statement[place : place + len(wanted)] = [None] * len(wanted)
    return sorted(found)


def _starts(clauses: Sequence[Sequence[str]]) -> list[int]:
    """At which of all words each clause begins."""
    return list(accumulate((len(clause) for clause in clauses[:-1]), initial=0))


def _is_article(token: str, place: int, count: int) -> bool:
    """The last word is none, as in `vitamin A`, nor is a capital A behind another word."""
    return place + 1 < count and token.casefold() in ("a", "an", "the") and not (token == "A" and place)


def _canonical(token: str) -> str:
    if _GROUPED.fullmatch(token):
        token = token.replace(",", "")
    if number := _NUMBER.fullmatch(token):  # not by its value: a plate 08 is no 8
        sign, whole, rest = number[1].removeprefix("+"), number[2] or "0", (number[3] or "").rstrip("0").rstrip(".")
        return f"{sign}{whole}{rest}"
    return token.casefold().removesuffix("'s")
