"""Answers of shards and of Ray's block folders, joined: each id once; what differs and what is missing is reported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtc.core.files import is_same_file, replacing
from vtc.core.jsonl import read_lines

from .columns import why_no_answer
from .journal import is_torn
from .parquet import read_parquet, write_parquet
from .questions import Question, read_questions
from .ray.folder import PENDING, blocks
from .tables import ENDING

TIMES = ("seconds", "versions")
"""Columns in which two answers to one question may differ and still be the same answer."""
FORMATS = (".jsonl", ENDING)


@dataclass(frozen=True)
class Merged:
    """Result of a merge.

    Attributes:
        rows: ids written, each once.
        equal: ids that stood in more than one place with the same answer; written once.
        unequal: ids that stood there with different answers; the first that is no error is written.
        gaps: ids of the questions that no file answers; empty where no questions were given.
        strange: ids answered that no question has.
        torn: files whose last line is unfinished, as a killed process leaves it; that line is left out.
        mixed: whether answers of more than one job were joined: their fingerprints begin differently.
    """

    rows: int
    equal: tuple[str, ...] = ()
    unequal: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()
    mixed: bool = False

    @property
    def clean(self) -> bool:
        """Whether every id is answered exactly once, by one job; equal duplicates do no harm."""
        return not (self.unequal or self.gaps or self.strange or self.torn or self.mixed)


@dataclass
class _Found:
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    equal: dict[str, None] = field(default_factory=dict)
    unequal: dict[str, None] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)
    jobs: set[str] = field(default_factory=set)

    def add(self, row: dict[str, Any]) -> None:
        """Take a row in, and note an id that was there before."""
        name = row["id"]
        self.jobs.add(str(row.get("fingerprint")).partition("-")[0])
        before = self.rows.setdefault(name, row)
        if before is row:
            return
        if _comparable(row) == _comparable(before):
            self.equal[name] = None
        else:
            self.unequal[name] = None
        if before.get("error") is not None and row.get("error") is None:
            self.rows[name] = row


def merge(answers: Sequence[str | Path], out: str | Path, questions: str | Path | None = None) -> Merged:
    """Join `answers` into one file, in the order of `questions`, or else as they come.

    Args:
        answers: files of answers (.jsonl or .parquet), and folders of them as Ray writes; what Ray has not noted as
            written is left out.
        out: a .jsonl or .parquet file; it appears only when it is whole.
        questions: the file that was answered, to find gaps by.

    Raises:
        OSError: a file that cannot be read or written; a folder without answers.
        ValueError: no answers given, a line that is no answer, or `out` of another ending or among the answers.
    """
    out = Path(out)
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"out={out}: the ending {out.suffix!r} is none of {', '.join(FORMATS)}")
    if questions is not None and is_same_file(out, questions):
        raise ValueError(f"out={out} is the file of questions; write to another")
    asked = None if questions is None else read_questions(questions, allow_urls=True)
    found = _Found()
    files = [file for place in answers for file in answer_files(Path(place))]
    if not files:
        raise ValueError(f"answers={list(map(str, answers))}: nothing to join; pass files of answers or Ray's folders")
    if any(is_same_file(out, file) for file in files):
        raise ValueError(f"out={out} is one of the files to join; write to another")
    for file in files:
        for number, row in read_answers(file, found.torn):
            if not isinstance(row["id"], str):
                raise ValueError(f"{file}, line {number}: id={row['id']!r}; expected a text, as `vtc batch` writes it")
            found.add(row)
    write_rows(_ordered(found.rows, asked), out)
    return _key_counts(found, asked)


def answer_files(place: Path) -> list[Path]:
    """A file itself; of a folder, its .jsonl files by name: those that Ray has noted as written, or where it has noted
    none, all but those that it was about to write.

    Raises OSError where there is none.
    """
    if not place.is_dir():
        return [place]
    torn = tuple(path.name.removesuffix(PENDING) for path in place.rglob(f"*{PENDING}"))
    found = [path for path in sorted(place.glob("*.jsonl")) if not (torn and path.name.startswith(torn))]
    found = blocks(place) or found
    if not found:
        raise FileNotFoundError(f"{place} holds no .jsonl files; pass the folder that vtc batch --engine ray wrote")
    return found


def read_answers(file: Path, torn: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The answers in a .jsonl or .parquet file, by line or row from 1. A last line that a kill tore is noted in `torn`.

    Raises ImportError or OSError where it cannot be read, and ValueError, naming file and line, for what is no answer.
    """
    for number, row in enumerate(read_parquet(file), 1) if file.suffix.lower() == ENDING else _lines(file, torn):
        if why := why_no_answer(row):
            raise ValueError(f"{file}, line {number} is no answer: {why}; {_REMEDY}")
        yield number, row


_REMEDY = "expected an object with `id` and `answer` or `error`, as `vtc batch` writes them"


def _lines(file: Path, torn: list[str]) -> Iterator[tuple[int, Any]]:
    for line in read_lines(file):
        if is_torn(line.raw):
            torn.append(str(file))
        elif not line.blank:
            yield line.number, line.parse(_REMEDY)


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Return the comparable part of a row: without times, and without empty columns, which a table has in every row."""
    comparable = {name: value for name, value in row.items() if name not in TIMES and value is not None}
    if isinstance(comparable.get("calls"), list):
        comparable["calls"] = [_comparable(call) if isinstance(call, dict) else call for call in comparable["calls"]]
    return comparable


def _ordered(rows: dict[str, dict[str, Any]], asked: list[Question] | None) -> list[dict[str, Any]]:
    """As asked, and what nobody asked behind it."""
    order = [] if asked is None else [one.id for one in asked if one.id in rows]
    return [rows[name] for name in dict.fromkeys([*order, *rows])]


def _key_counts(found: _Found, asked: list[Question] | None) -> Merged:
    ids = None if asked is None else {one.id: None for one in asked}
    return Merged(
        rows=len(found.rows),
        equal=tuple(name for name in found.equal if name not in found.unequal),
        unequal=tuple(found.unequal),
        gaps=() if ids is None else tuple(name for name in ids if name not in found.rows),
        strange=() if ids is None else tuple(name for name in found.rows if name not in ids),
        torn=tuple(found.torn),
        mixed=len(found.jobs) > 1,
    )


def write_rows(rows: list[dict[str, Any]], out: Path) -> None:
    """Write rows of answers; `out` appears only when it is whole and on the disk."""
    if out.suffix.lower() == ENDING:
        write_parquet(rows, out)
        return
    with replacing(out, fsync=True) as draft, open(draft, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
