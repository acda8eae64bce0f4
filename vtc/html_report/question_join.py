"""The questions that a file of answers is about, where the answers do not tell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtc.video.batch.questions import question_rows


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
        ImportError: Parquet without pyarrow.
        ValueError: another ending, a line that is no row, or none of `ids` in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--questions {path}: no such file; pass the one that `vtc batch` was given")
    rows = {str(row["id"]): row for _, row in question_rows(path) if str(row.get("id")) in ids}
    if ids and not rows:
        raise ValueError(f"--questions {path} holds none of the ids that are answered, such as {min(ids)!r}")
    return Questions(path.parent, rows)
