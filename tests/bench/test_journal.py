"""The file of rows: torn, foreign, of another run."""

from __future__ import annotations

import json

import pytest

from vtc.bench.journal import (
    CONFIG,
    ROWS,
    BenchRow,
    RowFile,
)

CONFIGURATION = {"n": 3, "keep": [1.0], "schedule": ((0.25, 0.3), (0.5, 0.034))}
GOOD = [BenchRow("m", "kcenter", 0.1, str(i), "a", 14, True, None, 0.25) for i in range(3)]


@pytest.fixture
def out(tmp_path):
    with RowFile(tmp_path, CONFIGURATION) as file:
        for row in GOOD:
            file.add(row)
    return tmp_path


def opened(out, config=CONFIGURATION, **options):
    with RowFile(out, config, **options) as file:
        return list(file.rows.values())


def test_rows_come_back_as_they_were(out):
    assert opened(out) == GOOD
    counted = BenchRow("m", "kcenter", 14, "0", "a", 14)
    with RowFile(out, CONFIGURATION) as file:
        file.add(counted)
        assert file.rows[counted.key] == counted
    assert opened(out) == [*GOOD, counted]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_dropped_and_the_file_mended(out, cut):
    path = out / ROWS
    path.write_bytes(path.read_bytes()[:-cut])
    with RowFile(out, CONFIGURATION) as file:
        assert list(file.rows.values()) == GOOD[:2]
        file.add(GOOD[2])
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["0", "1", "2"]


def test_errors_are_tried_again(out):
    with RowFile(out, CONFIGURATION) as file:
        file.add(BenchRow("m", "kcenter", 0.1, "3", error="broken"))
        file.add(BenchRow("m", "resize", 0.1, "", refused="no"))
    assert [row.id for row in opened(out)] == ["0", "1", "2", ""]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", r"is no JSON \(.*\); pass --overwrite to begin again"),
        (b"[]", "is a JSON list, not an object; pass --overwrite to begin again"),
        (b'{"model": "m"}', r"is no row of a run \(.*'name'.*\); pass --overwrite to begin again"),
        (b'{"colour": 1}', r"is no row of a run \(.*'colour'\); pass --overwrite to begin again"),
        (b"", "is empty; remove it"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_a_line_that_is_no_row_is_named(out, line, why):
    lines = (out / ROWS).read_bytes().split(b"\n")
    (out / ROWS).write_bytes(b"\n".join([lines[0], line, *lines[1:]]))
    with pytest.raises(ValueError, match=rf"rows\.jsonl, line 2 {why}"):
        opened(out)
    assert opened(out, overwrite=True) == []


def test_another_configuration_is_refused_by_what_differs(out):
    with pytest.raises(ValueError, match=r"--out .*\(n: 3 there, 4 here\); .*--overwrite"):
        opened(out, {**CONFIGURATION, "n": 4})
    assert opened(out) == GOOD
    assert opened(out, {**CONFIGURATION, "n": 4}, overwrite=True) == []
    assert opened(out, {**CONFIGURATION, "n": 4}) == []


def test_rows_without_a_configuration_are_refused(out):
    (out / CONFIG).unlink()
    with pytest.raises(ValueError, match=r"no config\.json"):
        opened(out)
