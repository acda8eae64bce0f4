"""HTML from parts: whatever is no `Markup` is text, and is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

LONGEST, WORDY = 2000, 45
"""Characters of a text from a run that are shown, and beyond which a cell breaks its lines."""
_UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(text: object) -> Markup:
    """`text` as HTML; characters that no page may hold (controls, half surrogates) become U+FFFD."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_UNSHOWN.sub("\ufffd", str(text)), quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element; an attribute's name may end in `_`, other underscores are hyphens; None leaves one out."""
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in ("img", "meta"):
        return Markup(f"<{name}{listed}>")
    return Markup(f"<{name}{listed}>{joined(children)}</{name}>")


def joined(parts: Iterable[object], by: str = "") -> Markup:
    """Parts in a row."""
    return Markup(by.join(map(escaped, parts)))


def escaped_text(text: object) -> Markup:
    """Words from a run: kept apart from the direction of what surrounds them, and cut where they are very long."""
    whole = str(text)
    cut = f"{whole[:LONGEST]}… ({len(whole) - LONGEST} more characters)" if len(whole) > LONGEST else whole
    return tag("bdi", cut)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], caption: str) -> Markup:
    """A table that scrolls sideways by itself; the first cell of each row heads it."""
    lines = [tag("tr", tag("th", row[0], scope="row"), joined(map(_cell, row[1:]))) for row in rows]
    heads = tag("thead", tag("tr", joined(tag("th", cell, scope="col") for cell in head)))
    return tag(
        "div", tag("table", tag("caption", tag("span", caption)), heads, tag("tbody", joined(lines))), class_="scroll"
    )


def _cell(content: object) -> Markup:
    return tag("td", content, class_="long" if len(str(content)) > WORDY else None)


def document(title: str, style: str, body: Markup) -> str:
    """A whole page that asks for nothing: its own policy lets no script run and nothing be fetched."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    head = joined(
        (
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", Markup(style)),
        )
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>{body}</main></body></html>\n'
