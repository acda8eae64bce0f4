"""The table of families: made of outcomes, found and replaced on its page."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests import table
from tests.families import FAMILIES


def outcome(stem: str, family: str, passed: bool) -> SimpleNamespace:
    return SimpleNamespace(
        nodeid=f"tests/reduction/{stem}.py::test_it[{family}]",
        user_properties=[("family", family)],
        when="call",
        failed=not passed,
        passed=passed,
    )


def first_columns(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines()]


def test_the_page_has_every_family_under_its_class_and_adapter():
    assert first_columns(table.on_page()) == first_columns(table.table({}))


def test_one_failure_marks_the_cell():
    cells: table.Cells = {}
    name = FAMILIES[0].name
    for passed in (True, False, True):
        table.note(cells, outcome("test_grid_counts", name, passed))
    table.note(cells, outcome("test_turns", name, True))
    row = table.table(cells).splitlines()[2].split("|")[4:-1]
    marks = dict(zip(table.COLUMNS.values(), (mark.strip() for mark in row), strict=True))
    assert marks == {**dict.fromkeys(table.COLUMNS.values(), "-"), "counts": "✗", "turns": "✓"}


def test_the_table_on_the_page_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "PAGE", tmp_path / "page.md")
    table.PAGE.write_text(f"before\n{table.START}\n| old |\n{table.END}\nafter\n")
    table.write("| new |")
    assert table.on_page() == "| new |"
    assert table.PAGE.read_text() == f"before\n{table.START}\n| new |\n{table.END}\nafter\n"
    table.PAGE.write_text("no table\n")
    with pytest.raises(ValueError, match=r"page\.md has no lines"):
        table.write("| new |")


def test_a_part_of_the_columns_is_no_table():
    assert table.is_whole([*table.COLUMNS, "test_docs"])
    assert not table.is_whole([*table.COLUMNS][1:])
