"""Content of a report page, whichever run it is about, and its layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image

from .html import (
    Markup,
    document,
    escaped_text,
    joined,
    table,
    tag,
)
from .images import data_uri
from .style import STYLE

Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""Caption, head and rows."""


@dataclass(frozen=True)
class Figure:
    """An image and what it shows.

    Attributes:
        image: None where it cannot be shown.
        words: the line under it, or why there is none.
        kept: visual tokens that are drawn as kept, where some are.
    """

    image: Image.Image | None
    words: str
    kept: int | None = None


@dataclass(frozen=True)
class Example:
    """One question and what became of it.

    Attributes:
        state: `error`, `wrong`, `lost` (all tokens answer right, fewer do not), `right`, `kept` or `answered`.
        id: of the question.
        facts: (name, text) in order: the question, the answers, what they cost.
        figure: makes the image when the page is laid out, one at a time.
    """

    state: str
    id: str
    facts: Sequence[tuple[str, str]]
    figure: Callable[[], Figure] = field(repr=False)


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own.

    Attributes:
        title: the heading.
        notes: paragraphs.
        cards: (name, number).
        curve: inline SVG.
        tables: see `Table`.
        examples: the worst first.
    """

    title: str
    notes: Sequence[str] = ()
    cards: Sequence[tuple[str, str]] = ()
    curve: Markup | None = None
    tables: Sequence[Table] = ()
    examples: Sequence[Example] = ()


WORDS = {
    "error": "error",
    "wrong": "wrong",
    "lost": "right with all tokens, wrong with fewer",
    "right": "right",
    "kept": "no recipe lost it",
    "answered": "answered; no true answer is known",
}


def laid_out(title: str, intro: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole page."""
    body = [tag("h1", title), *(tag("p", line, class_="soft") for line in intro), *map(_section, sections)]
    return document(title, STYLE, joined(body, "\n"))


def _section(one: Section) -> Markup:
    parts: list[Markup] = [tag("h2", one.title), *(tag("p", escaped_text(note)) for note in one.notes)]
    if one.cards:
        cards = (tag("div", tag("b", number), tag("span", name, class_="soft")) for name, number in one.cards)
        parts.append(tag("div", joined(cards), class_="cards"))
    if one.curve is not None:
        parts.append(one.curve)
    for caption, head, rows in one.tables:
        parts.append(table(head, [[escaped_text(cell) for cell in row] for row in rows], caption))
    if one.examples:
        parts.append(tag("div", joined(map(_example, one.examples), "\n"), class_="examples"))
    return tag("section", joined(parts, "\n"))


def _example(one: Example) -> Markup:
    figure = one.figure()
    facts = joined(joined((tag("dt", name), tag("dd", escaped_text(text)))) for name, text in one.facts)
    wide = figure.image is not None and figure.image.width > 640 and figure.image.width > figure.image.height
    return tag(
        "article",
        tag("h3", escaped_text(one.id)),
        tag("p", WORDS[one.state], class_=f"tag {one.state}"),
        tag("dl", facts),
        _figure(figure),
        class_="wide" if wide else None,
    )


def _figure(figure: Figure) -> Markup:
    if figure.image is None:
        return tag("p", escaped_text(figure.words), class_="missing")
    width, height = figure.image.size
    shown = tag("img", src=data_uri(figure.image), alt=figure.words, width=width, height=height)
    return tag("figure", shown, tag("figcaption", escaped_text(figure.words)))
