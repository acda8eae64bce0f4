"""A page read again, as a browser would: its elements, its text, and whether it asks for anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = ("meta", "img")
ACTING = ("script", "iframe", "object", "embed", "link", "base", "form")
POINTING = ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction")


@dataclass
class Page(HTMLParser):
    """What a page holds.

    Attributes:
        tags: (name, attributes) in order.
        texts: of elements, in order, those of `style` left out.
        articles: the text of each example.
        ids: the headings of the questions in them.
    """

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    articles: list[list[str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> Page:
        page = cls()
        HTMLParser.__init__(page)
        page.feed(text)
        page.close()
        assert page.open == [], f"not closed: {page.open}"
        return page

    @classmethod
    def read(cls, path: Path) -> Page:
        return cls.of(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "article":
            self.articles.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        found = self.open.pop()
        assert found == tag, f"</{tag}> closes <{found}>"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            return
        self.texts.append(data)
        if "article" in self.open:
            self.articles[-1].append(data)
            if "h3" in self.open and data.strip():
                self.ids.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def asks_for(self) -> list[str]:
        """What a browser would fetch or run: nothing of it may stand in a page."""
        found = [
            name for name, _ in self.tags if name in ("script", "iframe", "object", "embed", "link", "base", "form")
        ]
        for name, attributes in self.tags:
            found += [f"{name} {key}" for key in attributes if key.startswith("on")]
            pointing = ((key, attributes[key] or "") for key in POINTING if key in attributes)
            found += [
                f"{name} {key}={value[:40]}" for key, value in pointing if not value.startswith(("data:image/", "#"))
            ]
            found += [
                f"{name} {key}" for key, value in attributes.items() if "url(" in (value or "").replace("url(#", "")
            ]
        return found
