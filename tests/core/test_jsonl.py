"""Lines of JSON: what was appended comes back, torn or not, and every fault names its file and line."""

from __future__ import annotations

import errno
import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vtc.core.jsonl import append_line, read_lines

VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=3)
ROWS = st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=5)
ODD = {"id": "\u2028\u2029\x85\x0b\x0c\x1c \r\n", "\ufeff": "ü\U0001f600"}


def text_of(row) -> str:
    return json.dumps(row, ensure_ascii=False)


def written(path, rows, ending=b"\n"):
    path.write_bytes(b"".join(text_of(row).encode() + ending for row in rows))
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("lines") / "a.jsonl"


@given(ROWS)
@example([ODD, {}, ODD])
def test_what_is_appended_comes_back_with_its_number(path, rows):
    path.unlink(missing_ok=True)
    with path.open("ab") as file:
        for row in rows:
            append_line(file, text_of(row))
            assert path.read_bytes().endswith(b"\n")  # handed over at once
    found = list(read_lines(path))
    assert [(line.number, line.row("")) for line in found] == list(enumerate(rows, 1))
    assert all(line.ended for line in found)


@given(ROWS, st.integers(0))
@example([ODD, ODD], 30)
def test_a_kill_tears_the_last_line_and_no_other(path, rows, cut):
    whole = written(path, rows).read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    left = path.read_bytes()
    ended = [line.row("") for line in read_lines(path) if line.ended]
    assert ended == rows[: left.count(b"\n")]
    torn = [line for line in read_lines(path) if not line.ended]
    assert b"".join(line.raw for line in torn) == left.rpartition(b"\n")[2]
    assert [line.number for line in torn] == [len(ended) + 1] * len(torn)


@given(ROWS, st.sampled_from([b"\n", b"\r\n", b" \t\n"]), st.booleans())
@example([ODD], b"\r\n", True)
def test_editors_of_other_systems_change_nothing(path, rows, ending, mark):
    data = written(path, rows, ending).read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" * (mark and bool(rows)) + data)
    assert [line.row("") for line in read_lines(path)] == rows


@given(st.lists(st.sampled_from(["", " ", "\t", "\r", "{}"])))
def test_blank_lines_are_told_and_counted(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), newline="")
    full = [line.number for line in read_lines(path) if not line.blank]
    assert full == [number for number, line in enumerate(lines, 1) if line == "{}"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is empty; remove it"),
        (b" \r", "is empty; remove it"),
        (b'{"a": \xe9}', "is not UTF-8 (invalid continuation byte); save the file as UTF-8"),
        (
            '{"a": 1}'.encode("utf-16-le"),
            "is no JSON (Expecting property name enclosed in double quotes, column 2); do",
        ),
        (b'{"a": 1', "is no JSON (Expecting ',' delimiter, column 8); do this"),
        (b'{"a": 1} {}', "is no JSON (Extra data, column 10); do this"),
        (b"\0\0\0", "is no JSON (Expecting value, column 1); do this"),
        (b"[" * 100_000, "is no JSON (lists or objects are nested too deeply); do this"),
        (b"[1]", "is a JSON list, not an object; do this"),
        (b"null", "is a JSON NoneType, not an object; do this"),
    ],
)
@pytest.mark.parametrize("source", [None, "--data x"])
def test_faults_name_file_line_and_remedy(tmp_path, raw, words, source):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n" + raw + b"\n{}\n")
    lines = list(read_lines(path, source))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        lines[1].row("do this")
    assert str(caught.value).startswith(f"{source or path}, line 2 {words}")
    assert [lines[0].row(""), lines[2].row("")] == [{}, {}]


def test_json_of_any_kind_can_be_asked_for(tmp_path):
    (tmp_path / "a.jsonl").write_text("[1]\nnull\n")
    assert [line.parse("") for line in read_lines(tmp_path / "a.jsonl")] == [[1], None]


@pytest.mark.parametrize("full", [0, 1, 5])
def test_of_a_line_that_fails_nothing_stays(tmp_path, full):
    def few(handle, data):
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        room -= (taken := os.write(handle, data[: min(3, room)]))
        return taken

    path = written(tmp_path / "a.jsonl", [{"a": 1}])
    with path.open("ab") as file:
        room = full
        with pytest.raises(OSError, match="No space"):
            append_line(file, text_of(ODD), write=few)
        assert path.read_bytes() == b'{"a": 1}\n'
        room = 10_000
        append_line(file, text_of(ODD), fsync=True, write=few)
    assert [line.row("") for line in read_lines(path)] == [{"a": 1}, ODD]
