"""Answers as a Parquet file: made from the appended rows once all are there, with one schema for all jobs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .columns import NAMES, OPTIONAL, STAGES
from .questions import Question
from .records import row_of

ENDING = ".parquet"
NEEDED = "Parquet needs pyarrow; pip install 'vtc-vlm[ray]', or write to a .jsonl file"


def journal_of(out: Path) -> Path:
    """The file that rows are appended to: `out` itself, or where that is a Parquet file, one beside it."""
    return out.with_name(f"{out.name}.jsonl") if out.suffix.lower() == ENDING else out


def check_parquet(out: Path, questions: Iterable[Question], anew: bool) -> None:
    """Finds out beforehand what would keep a night's answers from becoming a Parquet file.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: columns that are kept through hold values of more than one kind, or `out` is there without the file
            that it was made from.
    """
    if out.exists() and not journal_of(out).exists() and not (anew and _is_ours(out)):
        raise ValueError(
            f"out={out} is there, but {journal_of(out).name}, which it was made from, is not: what it holds cannot be "
            "gone on with; write to another file"
            + (", or start anew (--anew), which throws the answers away" if _is_ours(out) else "")
        )
    _table([row_of(question) for question in questions])


def _is_ours(path: Path) -> bool:
    """Whether a file is one of answers."""
    try:
        return set(NAMES) <= {name for row in read_parquet(path)[:1] for name in (*row, *OPTIONAL)}
    except (OSError, ValueError):
        return False


def write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes rows of answers; `path` appears only when it is whole and on the disk.

    Raises:
        ImportError: pyarrow is not installed.
        OSError: it cannot be written.
        ValueError: a column holds values of more than one kind.
    """
    table = _table(rows)
    from pyarrow.parquet import write_table

    fresh = path.with_name(f".{path.name}.part")
    try:
        with open(fresh, "wb") as file:
            write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `write_parquet` made, without the columns that a row has nothing in."""
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_table
    except ImportError as error:
        raise ImportError(NEEDED) from error
    try:
        found: list[dict[str, Any]] = read_table(path).to_pylist()
    except ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file ({error})") from error
    return [{name: value for name, value in row.items() if value is not None or name not in OPTIONAL} for row in found]


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    try:
        import pyarrow as pa
        from pyarrow.parquet import write_table
    except ImportError as error:
        raise ImportError(NEEDED) from error
    kinds = _kinds(pa)
    made = {}
    for name in dict.fromkeys([*NAMES, *(name for row in rows for name in row)]):
        try:
            made[name] = pa.array([row.get(name) for row in rows], kinds.get(name))
            write_table(pa.table({name: made[name]}), pa.BufferOutputStream())  # tells of objects without fields
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
            raise ValueError(
                f"the column {name!r} does not fit one kind ({error}), which Parquet needs; write to a .jsonl file"
            ) from error
    return pa.table(made)


def _kinds(pa: Any) -> dict[str, Any]:
    """Types of the columns that may be empty in one file and not in another; those of the others are what they hold."""
    texts = dict.fromkeys(("id", "answer", "error", "choice", "fingerprint", "note"), pa.string())
    numbers = dict.fromkeys(("tokens_full", "tokens_kept", "seed"), pa.int64())
    seconds = pa.struct([(stage, pa.float64()) for stage in STAGES])
    return texts | numbers | {"correct": pa.bool_(), "frames": pa.list_(pa.float64()), "seconds": seconds}
