"""The table of classes in docs/models.md: `python -m tests.sweep.page` writes it."""

from __future__ import annotations

import re
from pathlib import Path

import transformers as hf
from torch import nn

from tests.sweep.classes import mapped, refusal, takes_images
from tests.sweep.table import media_of
from vtc.adapters import find
from vtc.check.runner import recipes, runnable

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
END = "<!-- /classes -->"
START = re.compile(r"<!-- classes: written by python -m tests.sweep.page, transformers ([\d.]+) -->")
HEAD = ("class in transformers", "images", "videos", "adapter", "cues", "decoder stages")


def rows() -> list[tuple[str, ...]]:
    """A row for each class: what is served of it, or why it is not."""
    served = media_of()
    names = [name for name in mapped() if name in served or takes_images(name)]
    found = [_served(name) if name in served else (f"`{name}`", _reason(name)) for name in names]
    return sorted(found, key=lambda row: (len(row) == 2, row))


def _served(name: str) -> tuple[str, ...]:
    kinds = media_of()[name]
    model = next(iter(kinds.values()))()
    adapter = type(find(model)).__module__.rpartition(".")[2]
    marks = [_mark(kind in kinds) for kind in ("image", "video")]
    return (f"`{name}`", *marks, f"`{adapter}.py`", _mark(_gives_cues(model)), _mark(_takes_decoder_stages(model)))


def _reason(name: str) -> str:
    return refusal(name) or "undecided"


def _gives_cues(model: nn.Module) -> bool:
    try:
        find(model).input_recorders(("attention",))
    except ValueError:
        return False
    return True


def _takes_decoder_stages(model: nn.Module) -> bool:
    return bool(runnable(model, recipes(["layerwise"], positions="original"))[0])


def _mark(holds: bool) -> str:
    return "✓" if holds else "-"


def table() -> str:
    """Served classes with what works, then the refused ones with what is missing."""
    found = rows()
    served = [HEAD, ("---",) * len(HEAD), *(row for row in found if len(row) > 2)]
    refused = [("refused", "since"), ("---", "---"), *(row for row in found if len(row) == 2)]
    count = len(served) - 2
    lines = [["| " + " | ".join(row) + " |" for row in part] for part in (served, refused)]
    return "\n".join([f"{count} of {len(found)} are served.", "", *lines[0], "", *lines[1]])


def on_page() -> tuple[str, str]:
    """The version of transformers that the page names, and its table."""
    text = PAGE.read_text(encoding="utf-8")
    start = START.search(text)
    assert start is not None, f"{PAGE} has no line {START.pattern!r}"
    return start[1], text[start.end() : text.index(END)].strip()


def write() -> None:
    """Put the table onto the page."""
    text = PAGE.read_text(encoding="utf-8")
    start = START.search(text)
    assert start is not None, f"{PAGE} has no line {START.pattern!r}"
    marker = start[0].replace(start[1], hf.__version__)
    PAGE.write_text(f"{text[: start.start()]}{marker}\n{table()}\n{text[text.index(END) :]}", encoding="utf-8")


if __name__ == "__main__":
    write()
