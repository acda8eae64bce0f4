"""The questions that a file of answers is about, where the answers do not tell them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtc.core.json_text import loads


@dataclass(frozen=True)
class Questions:
    """Some questions by id.

    Attributes:
        folder: what paths of media are relative to.
        rows: by id, as text.
    """

    folder: Path
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, id: object) -> Mapping[str, Any]:
        """Return the question under `id`; empty where that is not known."""
        return self.rows.get(str(id), {})


def read_questions(path: Path, ids: set[str]) -> Questions:
    """Those of `ids` among the questions in `path`, a JSONL, CSV or Parquet file.

    Raises:
        OSError: no such file.
        ValueError: a line that is no question, or none of `ids` in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--questions {path}: no such file; pass the one that `vtc batch` was given")
    rows = {str(row["id"]): row for row in _read(path) if str(row.get("id")) in ids}
    if ids and not rows:
        raise ValueError(f"--questions {path} holds none of the ids that are answered, such as {min(ids)!r}")
    return Questions(path.parent, rows)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix.lower() == ".parquet":
        yield from _parquet(path)
    elif path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from ({name: value for name, value in row.items() if value} for row in csv.DictReader(file))
    else:
        yield from _jsonl(path)


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = loads(line.decode("utf-8"))
            except ValueError as error:
                raise ValueError(f"--questions {path}, line {number} is no JSON ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"--questions {path}, line {number} is a {type(row).__name__}; expected an object")
            yield row


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise ValueError(f"--questions {path}: Parquet needs pyarrow: pip install pyarrow, or pass JSONL") from error
    for batch in parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()
