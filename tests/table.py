"""The table of families in docs/models.md, made by a test run: what was tested on which class, and whether it held."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
START, END = "<!-- families: written by pytest --families -->", "<!-- /families -->"
COLUMNS = {
    "test_grid_identity": "keep 1.0",
    "test_grid_counts": "counts",
    "test_grid_batch": "batch",
    "test_grid_prompt": "prompt",
    "test_grid_oracle": "oracle",
    "test_grid_decoding": "decoding",
    "test_turns": "turns",
    "test_grid_undo": "undo",
    "test_grid_misuse": "misuse",
    "test_cues": "cues",
}
"""Test file -> heading of its column."""

Cells = dict[tuple[str, str], bool]
"""(family, column) -> whether all of its checks passed."""


def label(item: pytest.Item) -> str | None:
    """The family that a test is about."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    family = params.get("family") or getattr(params.get("case"), "family", None)
    return getattr(family, "name", None)


def note(cells: Cells, report: pytest.TestReport) -> None:
    """Adds the outcome of a test to its cell."""
    family = dict(report.user_properties).get("family")
    column = COLUMNS.get(Path(report.nodeid.split("::")[0]).stem)
    if family and column and (report.when == "call" or report.failed):
        cells[family, column] = cells.get((family, column), True) and report.passed


def table(cells: Cells) -> str:
    """The table as the page has it; a dash where nothing was to be tested."""
    from tests.families import FAMILIES

    rows = [["class in transformers", "media", "adapter", *COLUMNS.values()]]
    for family in FAMILIES:
        marks = {True: "✓", False: "✗", None: "-"}
        found = [marks[cells.get((family.name, column))] for column in COLUMNS.values()]
        rows.append([*_names(family), *found])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _names(family: object) -> tuple[str, str, str]:
    from tests.grid import stock
    from vtc import adapters

    model = stock(family)
    kind = "videos" if family.name.endswith("-video") else "images"
    adapter = type(adapters.find(model)).__module__.rpartition(".")[2]
    return f"`{type(model).__name__}`", kind, f"`adapters/{adapter}.py`"


def on_page() -> str:
    """The table that stands on the page."""
    found = re.search(re.escape(START) + "\n(.*?)\n" + re.escape(END), PAGE.read_text(encoding="utf-8"), re.S)
    return found[1].strip() if found else ""


def write(made: str) -> None:
    """Puts the table onto the page.

    Raises:
        ValueError: the page has no place for it.
    """
    text = PAGE.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{PAGE} has no lines {START!r} and {END!r}")
    PAGE.write_text(f"{before}{START}\n{made}\n{END}{after}", encoding="utf-8")


def is_whole(stems: Iterable[str]) -> bool:
    """Whether tests of every column ran, so that a table can be made of them."""
    return set(COLUMNS) <= set(stems)
