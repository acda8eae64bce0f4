"""Questions of a batch: rows of a JSONL, CSV or Parquet file, and rows of one medium together."""

from __future__ import annotations

import csv
import datetime
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vtc.core.json_text import loads
from vtc.core.jsonl import read_lines

from .columns import COLUMNS, kept_name
from .matching.choices import right
from .tables import table_rows

SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class Question:
    """One row of a batch.

    Attributes:
        id: unique in its file.
        medium: path of a video or an image, or a URL where those are allowed.
        question: what is asked.
        choices: texts to choose among; empty where the answer is free.
        start, end: the stretch of the video, in seconds; None: from its beginning, to its end.
        answer: the right one, where known: a text, or the letter of a choice.
        system: the system message.
        image: whether the medium came in the column `image`.
        extra: columns that are not known, kept through to the output.
        in_rows: whether its answer names the medium and what was asked.
    """

    id: str
    medium: str
    question: str
    choices: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    answer: str | None = None
    system: str | None = None
    image: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    in_rows: bool = True


@dataclass(frozen=True)
class Group:
    """Questions about one stretch of one medium, in their order; at least one."""

    questions: tuple[Question, ...]

    @property
    def first(self) -> Question:
        """The one that tells medium and stretch of all."""
        return self.questions[0]


def grouped(questions: Sequence[Question]) -> list[Group]:
    """Rows of one medium and stretch together, in the order of their first."""
    found: dict[tuple[object, ...], list[Question]] = {}
    for row in questions:
        found.setdefault((row.medium, row.image, row.start, row.end), []).append(row)
    return [Group(tuple(rows)) for rows in found.values()]


def slimmed(questions: Sequence[Question]) -> list[Question]:
    """The same, whose answers do not name the medium and what was asked."""
    return [replace(question, in_rows=False) for question in questions]


def one_by_one(groups: Sequence[Group]) -> list[Group]:
    """Each question about a video as a group of its own: where frames are chosen by it, nothing is shared."""
    apart: list[Group] = []
    for group in groups:
        apart += [group] if group.first.image else [Group((question,)) for question in group.questions]
    return apart


def read_questions(path: str | Path, *, root: str | Path | None = None, allow_urls: bool = False) -> list[Question]:
    """The questions in `path`, in order.

    A path in it that is relative starts at `root`, or at the file's own folder where there is none. Whether media
    exist is not looked at: a missing one becomes an error row.

    Args:
        path: a file that ends in .jsonl, .csv or .parquet.
        root: the folder that all media must lie in.
        allow_urls: whether media may be URLs.

    Raises:
        OSError: a file that cannot be read.
        ImportError: Parquet without pyarrow.
        ValueError: naming file and line: no JSON, missing columns, a value of another kind or that JSON cannot hold,
            an id that was there before, a true answer that is none of the choices, a medium outside `root`, a URL; or
            an empty file.
    """
    path = Path(path)
    base = path.parent if root is None else Path(root)
    questions: list[Question] = []
    lines: dict[str, int] = {}
    for line, row in question_rows(path):
        place = f"{path}, line {line}"
        one = _question(row, place, base, root is not None, allow_urls)
        if one.id in lines:
            raise ValueError(f"{place}: id {one.id!r} was in line {lines[one.id]} already; give each row its own")
        lines[one.id] = line
        questions.append(one)
    if not questions:
        raise ValueError(f"{path} holds no questions; write one JSON object a line, such as {_EXAMPLE}")
    return questions


_EXAMPLE = '{"id": "1", "video": "clip.mp4", "question": "What happens?"}'


def question_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row of a file of questions as it is there, and its line; a Parquet file's rows are counted from 1.

    Raises:
        OSError: a file that cannot be read.
        ImportError: Parquet without pyarrow.
        ValueError: another ending; naming file and line: what is no row, or holds a value that JSON cannot.
    """
    readers = {".jsonl": _json, ".csv": _csv, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(f"questions={path}: the ending {path.suffix!r} is none of {', '.join(readers)}")
    for line, row in readers[path.suffix.lower()](path):
        check_holdable(row, f"{path}, line {line}")
        yield line, row


def check_holdable(row: Mapping[str, Any], place: str) -> None:
    """Find out before the first answer what could not be kept through to the last.

    Raises:
        ValueError: naming `place`: a value that JSON cannot hold.
    """
    try:
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{place} holds what JSON, and so an answer, cannot hold ({error}): a number that is none, bytes, half a "
            "character; write it as text"
        ) from None


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            names = list(reader.fieldnames or ())
            if doubled := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{path}: the column {doubled[0]!r} is there twice; rename one of them")
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(
                        f"{path}, line {reader.line_num}: expected {len(names)} columns, as the header has"
                    )
                if any(row.values()):  # a line of commas alone is a blank one
                    yield reader.line_num, {name: value for name, value in row.items() if value != ""}
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error}); save it as UTF-8") from None
        except csv.Error as error:
            place = f"{path}, line {reader.reader.line_num}"
            raise ValueError(f"{place} is no CSV ({error}); is a quote left open?") from None


def _json(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    remedy = f"write one object a line, such as {_EXAMPLE}"
    return ((line.number, line.row(remedy)) for line in read_lines(path) if not line.blank)


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(table_rows(path), 1):
        # pandas writes what is missing among numbers as NaN; JSON has no times.
        plain = {name: None if value != value else value for name, value in row.items()}
        times = (datetime.date, datetime.time)
        yield number, {name: x.isoformat() if isinstance(x, times) else x for name, x in plain.items()}


def _question(row: dict[str, Any], place: str, base: Path, fenced: bool, allow_urls: bool) -> Question:
    row = {name: None if value == "" and name in COLUMNS else value for name, value in row.items()}
    media = [name for name in ("video", "image") if row.get(name) is not None]
    if len(media) > 1:
        raise ValueError(f"{place}: both 'video' and 'image' are there; a row is about one of them")
    if not media:
        raise ValueError(f"{place}: neither 'video' nor 'image' is there{_near(('video', 'image'), row)}")
    if "id" not in row:
        raise ValueError(f"{place}: the column 'id' is missing{_near(('id',), row)}; give each row its own")
    if row["id"] is None or isinstance(row["id"], (bool, list, dict)) or not str(row["id"]).strip():
        raise ValueError(f"{place}: id={row.get('id')!r}; give each row an id, a text or a number, in the column 'id'")
    texts = {name: _text(row.get(name), name, place) for name in (*media, "question", "system")}
    asked, named = texts["question"], texts[media[0]]
    if asked is None or named is None or not asked.strip():
        missing = f"missing{_near(('question',), row)}" if "question" not in row else "empty"
        raise ValueError(f"{place}: the column 'question' is {missing}; ask something")
    question = Question(
        id=str(row["id"]),
        medium=_medium(named, place, base, fenced, allow_urls),
        question=asked,
        choices=_choices(row.get("choices"), place),
        start=_seconds(row.get("start"), "start", place),
        end=_seconds(row.get("end"), "end", place),
        answer=_answer(row.get("answer"), place),
        system=texts["system"],
        image=media == ["image"],
        extra={name: value for name, value in row.items() if name not in COLUMNS},
    )
    _check(question, place)
    return question


def _near(wanted: Sequence[str], row: Mapping[str, Any]) -> str:
    """The columns of `row`, and which of them may stand for a column that is `wanted`."""
    unknown = [name for name in row if name not in COLUMNS]
    pairs = [(name, close) for name in wanted for close in get_close_matches(name, unknown, n=1, cutoff=0.5)]
    rename = f"; is {pairs[0][1]!r} meant to be {pairs[0][0]!r}?" if pairs else ""
    return f" (columns: {', '.join(map(repr, row))}{rename})"


def _check(question: Question, place: str) -> None:
    """Raise ValueError where columns that are good by themselves do not go together."""
    if question.image and (question.start, question.end) != (None, None):
        raise ValueError(f"{place}: an image has no stretch; leave 'start' and 'end' out, or name it in 'video'")
    if twice := [name for name in question.extra if kept_name(name) != name and kept_name(name) in question.extra]:
        both = f"{twice[0]!r} is kept through as {kept_name(twice[0])!r}"
        raise ValueError(f"{place}: the column {both}, which is there as well; rename one of them")
    if question.answer is not None and question.choices:
        try:
            right(question)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None


def _answer(value: object, place: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, (list, dict)) or not str(value).strip():
        raise ValueError(f"{place}: answer={value!r}; expected a text or a number, or no answer where it is not known")
    return str(value)


def _text(value: object, name: str, place: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{place}: {name}={value!r} is a {type(value).__name__}; expected a text")
    return value


def _seconds(value: object, name: str, place: str) -> float | None:
    if value is None:
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found) or found < 0:
        raise ValueError(f"{place}: {name}={value!r}; expected seconds from 0, such as 1.5")
    return found


def _choices(value: object, place: str) -> tuple[str, ...]:
    """A list, or a text that holds one as JSON, as in CSV."""
    if value is None or value == []:
        return ()
    if isinstance(value, str):
        try:
            value = loads(value)
        except ValueError:
            raise ValueError(f'{place}: choices={value!r}; expected a JSON list such as ["red", "blue"]') from None
    if (
        not isinstance(value, list)
        or len(value) < 2
        or len(value) > 26
        or any(x is None or isinstance(x, (list, dict)) for x in value)
    ):
        raise ValueError(f'{place}: choices={value!r}; expected a list of 2 to 26 texts, such as ["red", "blue"]')
    return tuple(map(str, value))


def _medium(named: str, place: str, base: Path, fenced: bool, allow_urls: bool) -> str:
    if named.lower().startswith(SCHEMES):
        if not allow_urls:
            raise ValueError(f"{place}: {named!r} is a URL, which is not fetched unless allowed; pass --allow-urls")
        return named
    if "://" in named:
        raise ValueError(f"{place}: {named!r} is neither a path nor an http(s) URL; pass the path of a file")
    if "\0" in named:
        raise ValueError(f"{place}: {named!r} holds a NUL, which no path does; pass the path of a file")
    path = base / named
    if fenced and not _inside(path, base):
        raise ValueError(f"{place}: {named!r} lies outside root={str(base)!r}; move the file, or pass another --root")
    return str(path)


def _inside(path: Path, root: Path) -> bool:
    """Return whether `path` lies in `root`. Links are followed first, so that none leads out of it."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of links leads nowhere
        return False
