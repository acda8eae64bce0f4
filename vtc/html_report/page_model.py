"""Content of a report page, whichever run it is about, and its layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image

from vtc.bench.plot import Curve

from .curve import CurveMarkup, draw_svg
from .html import render

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

    @property
    def wide(self) -> bool:
        """Whether it wants the whole width of the page."""
        return self.image is not None and self.image.width > max(640, self.image.height)


@dataclass(frozen=True)
class Example:
    """One question and what became of it.

    Attributes:
        state: `error`, `wrong`, `lost` (all tokens answer right, fewer do not), `right`, `kept` or `answered`.
        id: of the question.
        facts: (name, text) in order: the question, the answers, what they cost.
        figure: makes the image when the page is laid out, one at a time.
        more: further questions about the same medium, which stand under the same image; their own are not made.
    """

    state: str
    id: str
    facts: Sequence[tuple[str, str]]
    figure: Callable[[], Figure] = field(repr=False)
    more: Sequence[Example] = ()

    @property
    def questions(self) -> tuple[Example, ...]:
        """All that stand under the image."""
        return self, *self.more


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own.

    Attributes:
        title: the heading.
        notes: paragraphs.
        cards: (name, number).
        curve: scores over shares of tokens; one without points is not drawn.
        tables: see `Table`.
        examples: the worst first.
    """

    title: str
    notes: Sequence[str] = ()
    cards: Sequence[tuple[str, str]] = ()
    curve: Curve | None = None
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
    return render("page.html", title=title, intro=intro, sections=sections, states=WORDS, draw=_drawn)


def _drawn(curve: Curve) -> CurveMarkup | str:
    """The curve, or why it is not drawn: a plain install has no matplotlib, and its page says so."""
    try:
        return draw_svg(curve)
    except ImportError as error:
        return str(error)
