"""Rows of answers on disk: one JSON object a line, each safe before the next, and a job goes on behind the last."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from vtc.core.files import replacing
from vtc.core.json_text import loads
from vtc.core.jsonl import Line, append_line, read_lines

from .columns import NAMES, kept_name
from .fingerprints import differing
from .questions import Question


def row_of(question: Question, **values: Any) -> dict[str, Any]:
    """An output row. Unknown columns of the question come last; where one has the name of a column of ours, as
    `input_NAME`."""
    if question.in_rows:
        values |= {"image" if question.image else "video": question.medium, "question": question.question}
    row = {name: values[name] for name in NAMES if name in values}
    return {"id": question.id, **row, **{kept_name(name): value for name, value in question.extra.items()}}


class Records:
    """The file of a job's answers, held open and locked while it runs.

    Args:
        path: a .jsonl file; it is made where it is missing.
        overwrite: whether answers in it are thrown away; what is no file of answers never is.

    Attributes:
        done: fingerprint of each id that the file has a row of.
        failed: those of them whose row is an error.
        repaired: bytes of a torn last line that were cut off.

    Raises:
        OSError: it cannot be written, or another process is writing to it.
        ValueError: another ending, or a line that is no row, nor the beginning of one at the file's end.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
        if self.path.suffix.lower() != ".jsonl":
            raise ValueError(f"out={self.path}: expected the ending .jsonl, or .parquet for a file made of those rows")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"out={self.path}: the directory {self.path.parent} does not exist; make it first")
        self._file: BinaryIO = open(self.path, "a+b")  # noqa: SIM115 - closed by `close`
        try:
            self._lock()
            self.done: dict[str, str | None] = {}
            self.failed: set[str] = set()
            self.repaired = self._repair()
            if overwrite:  # only now that all of it is known to be ours
                self._file.truncate(0)
                self.done.clear()
                self.failed.clear()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and give up its lock."""
        self._file.close()

    def check(self, wanted: Mapping[str, str]) -> None:
        """Refuse to go on where an answer has another fingerprint than `wanted` says of its id.

        Raises:
            ValueError: naming the first such id.
        """
        check_bound(self.path, self.done, self.failed, wanted)

    def forget(self, names: Collection[str]) -> None:
        """Take the rows of `names` out of the file. Killed on the way, it leaves the file as it was.

        Raises:
            OSError: no space for the file's copy, or no right to make it.
        """
        if not any(name in self.done for name in names):
            return
        with ExitStack() as undo:
            with replacing(self.path, fsync=True) as draft:
                file: BinaryIO = undo.enter_context(open(draft, "a+b"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(self._file.fileno()).st_mode))
                file.writelines(line.raw for line in read_lines(self.path) if _row(line)["id"] not in names)
                file.flush()
            undo.pop_all()  # the file that is appended to from here on
        self._file.close()
        self._file = file
        self.done = {name: digits for name, digits in self.done.items() if name not in names}
        self.failed.difference_update(names)

    def append(self, row: Mapping[str, Any], write: Callable[[int, memoryview], int] = os.write) -> None:
        """Write a row, which is on the disk when this returns; what was written of one that fails is taken back.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        try:
            append_line(self._file, json.dumps(row, ensure_ascii=False, allow_nan=False), fsync=True, write=write)
        except OSError as error:
            text = f"{error.strerror}; the {len(self.done)} rows in it are safe: make room, and run the same again"
            raise OSError(error.errno, text, str(self.path)) from error
        self._note(row)

    def _note(self, row: Mapping[str, Any]) -> None:
        self.done[row["id"]] = row.get("fingerprint")
        if row.get("error") is not None:
            self.failed.add(row["id"])

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, `forget` of another process may have put another file in this one's place.
            if os.fstat(self._file.fileno()).st_ino != self.path.stat().st_ino:
                raise BlockingIOError
        except BlockingIOError:
            raise BlockingIOError(
                f"out={self.path}: another process is writing to it; wait for it, or write to another file"
            ) from None

    def _repair(self) -> int:
        """Record the rows, and cuts off a last line that a killed process left unfinished. Returns its bytes."""
        for row in rows(self.path, unfinished=True):
            self._note(row)
        for last in deque(read_lines(self.path), maxlen=1):
            if is_torn(last.raw):
                self._file.truncate(os.fstat(self._file.fileno()).st_size - len(last.raw))
                return len(last.raw)
            if not last.ended:  # an editor leaves the end of the last line out
                self._file.write(b"\n")
                self._file.flush()
        return 0


def check_bound(out: Path, done: Mapping[str, str | None], failed: Collection[str], wanted: Mapping[str, str]) -> None:
    """Refuse to go on with answers that would be given otherwise now.

    Args:
        out: where they are, to be named.
        done: the fingerprint of each answer.
        failed: those of them that are errors.
        wanted: the fingerprint that this job would give each.

    Raises:
        ValueError: naming the first such id, and what is not as it was.
    """
    for name, digits in wanted.items():
        others = differing(done[name], digits) if name in done else []
        if others:
            raise ValueError(
                f"out={out}: {name!r} was answered when {' and '.join(others)} were not what they are now (fingerprint "
                f"{done[name]}, now {digits}); write to another file, or start again (--overwrite), which throws the "
                "answers away" + (", or ask again what is an error (--retry)" if name in failed else "")
            )


_BEGINNING = re.compile(rb'\{"id": "(?:[^"\\]|\\.)*"')
_FIRST, _SECOND = b'{"id": "', b', "answer": '
"""Of each row as `Records` writes it."""


def is_torn(line: bytes) -> bool:
    """Return whether `line` is the beginning of a row, and no more."""
    if line.endswith(b"\n"):
        return False
    found = _BEGINNING.match(line)
    rest, wanted = (line[found.end() :], _SECOND) if found else (line, _FIRST)
    if rest[: len(wanted)] != wanted[: len(rest)]:
        return False
    try:
        loads(line)
    except ValueError:
        return True
    return False


_REMEDY = "remove the line, or write to another file"


def _row(line: Line) -> dict[str, Any]:
    row = line.row(_REMEDY)
    if not isinstance(row.get("id"), str) or "error" not in row:
        raise ValueError(f"{line.place} is no answer; {_REMEDY}")
    return row


def rows(path: str | Path, *, unfinished: bool = False) -> Iterator[dict[str, Any]]:
    """The rows of a file of answers, in order.

    Args:
        unfinished: leave a last line out that is torn.

    Raises:
        ValueError: naming the line: one that is no row, or an id that was there before.
    """
    seen: set[str] = set()
    for line in read_lines(path):
        if unfinished and is_torn(line.raw):
            return
        row = _row(line)
        if row["id"] in seen:
            raise ValueError(f"{line.place}: {row['id']!r} is answered twice; remove one of the lines")
        seen.add(row["id"])
        yield row
