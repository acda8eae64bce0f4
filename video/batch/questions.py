"""Questions of a batch: rows of a JSONL, CSV or Parquet file, and rows of one medium together."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COLUMNS = ("id", "video", "image", "question", "choices", "start", "end", "answer", "system")
READERS = (".jsonl", ".csv", ".parquet")
SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class Question:
    """One row of a batch.

    Attributes:
        id: unique in its file.
        medium: path of a video or a picture, or a URL where those are allowed.
        question: what is asked.
        choices: texts to choose among; empty where the answer is free.
        start, end: the stretch of the video, in seconds; None: from its beginning, to its end.
        answer: the right one, where known: a text, or the letter of a choice.
        system: what the model is told beforehand.
        picture: whether the medium came in the column `image`.
        extra: columns that are not known, kept through to the output.
    """

    id: str
    medium: str
    question: str
    choices: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    answer: str | None = None
    system: str | None = None
    picture: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


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
        found.setdefault((row.medium, row.picture, row.start, row.end), []).append(row)
    return [Group(tuple(rows)) for rows in found.values()]


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
        ValueError: naming file and line: no JSON, missing columns, a value of another kind, an id that was there
            before, a medium outside `root`, a URL; or an empty file.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise ValueError(f"questions={path}: the ending {path.suffix!r} is none of {', '.join(READERS)}")
    base = path.parent if root is None else Path(root)
    questions: list[Question] = []
    lines: dict[str, int] = {}
    for line, row in _rows(path):
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


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row and its line; a Parquet file's rows are counted from 1."""
    if path.suffix.lower() == ".parquet":
        yield from enumerate(_parquet(path), 1)
    elif path.suffix.lower() == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            for row in reader:
                if None in row or None in row.values():
                    want = len(reader.fieldnames or ())
                    raise ValueError(f"{path}, line {reader.line_num}: expected {want} columns, as the header has")
                yield reader.line_num, {name: value for name, value in row.items() if value != ""}
    else:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                if raw.strip():
                    yield number, _parsed(raw, f"{path}, line {number}")


def _parsed(raw: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(raw.decode("utf-8-sig"))
    except ValueError as error:  # of UTF-8 or of JSON
        raise ValueError(f"{place} is no JSON ({error}); write one object a line, such as {_EXAMPLE}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{place} is a JSON {type(row).__name__}; write one object a line, such as {_EXAMPLE}")
    return row


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_table
    except ImportError as error:
        raise ImportError(f"{path}: Parquet needs pyarrow; pip install 'vtc-vlm[ray]', or pass JSONL or CSV") from error
    try:
        rows: list[dict[str, Any]] = read_table(path).to_pylist()
    except ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file ({error}); write it anew") from error
    return rows


def _question(row: dict[str, Any], place: str, base: Path, fenced: bool, allow_urls: bool) -> Question:
    media = [name for name in ("video", "image") if row.get(name) not in (None, "")]
    if len(media) != 1:
        raise ValueError(f"{place}: expected exactly one of the columns 'video' and 'image', found {media}")
    if row.get("id") is None or isinstance(row["id"], (bool, list, dict)) or not str(row["id"]).strip():
        raise ValueError(f"{place}: id={row.get('id')!r}; give each row an id, a text or a number, in the column 'id'")
    texts = {name: _text(row.get(name), name, place) for name in (*media, "question", "system")}
    asked, named = texts["question"], texts[media[0]]
    if asked is None or named is None or not asked.strip():
        raise ValueError(f"{place}: the column 'question' is missing or empty; ask something")
    answer = row.get("answer")
    return Question(
        id=str(row["id"]),
        medium=_medium(named, place, base, fenced, allow_urls),
        question=asked,
        choices=_choices(row.get("choices"), place),
        start=_seconds(row.get("start"), "start", place),
        end=_seconds(row.get("end"), "end", place),
        answer=None if answer is None else str(answer),
        system=texts["system"],
        picture=media == ["image"],
        extra={name: value for name, value in row.items() if name not in COLUMNS},
    )


def _text(value: object, name: str, place: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{place}: {name}={value!r} is a {type(value).__name__}; expected a text")
    return value


def _seconds(value: object, name: str, place: str) -> float | None:
    if value is None:
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or found < 0:
        raise ValueError(f"{place}: {name}={value!r}; expected seconds from 0, such as 1.5")
    return found


def _choices(value: object, place: str) -> tuple[str, ...]:
    """A list, or a text that holds one as JSON, as in CSV."""
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f'{place}: choices={value!r}; expected a JSON list such as ["red", "blue"]') from None
    if (
        not isinstance(value, list)
        or len(value) < 2
        or len(value) > 26
        or any(isinstance(x, (list, dict)) for x in value)
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
    path = base / named
    # Links are followed first, so that none leads out of the root.
    if fenced and not path.resolve().is_relative_to(base.resolve()):
        raise ValueError(f"{place}: {named!r} lies outside root={str(base)!r}; move the file, or pass another --root")
    return str(path)
