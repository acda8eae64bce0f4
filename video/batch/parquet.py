"""Answers as a Parquet file: made from the appended rows once all are there, with one schema for all jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtc.core.files import replacing

from .columns import NAMES, OPTIONAL, STAGES
from .tables import ENDING, NEEDED, table_rows


def journal_of(out: Path) -> Path:
    """The file that rows are appended to: `out` itself, or where that is a Parquet file, one beside it."""
    return out.with_name(f"{out.name}.jsonl") if out.suffix.lower() == ENDING else out


def check_table(out: Path, source: Path, overwrite: bool) -> None:
    """Refuse a Parquet file that is no one's to overwrite, or that cannot be gone on with.

    Args:
        source: what `out` is made from.
        overwrite: whether answers may be thrown away.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: `out` holds something else than answers, or is there without `source`.
    """
    if not out.exists():
        return
    if not _is_ours(out):
        raise ValueError(f"out={out} is no file of answers; write to another file")
    if not source.exists() and not overwrite:
        raise ValueError(
            f"out={out} is there, but {source.name}, which it was made from, is not: what it holds cannot be gone on "
            "with; write to another file, or start again (--overwrite), which throws the answers away"
        )


def check_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Check before the run that the rows fit one Parquet schema.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: a column cannot be one of a table.
    """
    _table(rows)


def write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows of answers; `path` appears only when it is whole and on the disk.

    Raises:
        ImportError: pyarrow is not installed.
        OSError: it cannot be written.
        ValueError: a column cannot be one of a table.
    """
    table = _table(rows)
    from pyarrow.parquet import write_table

    with replacing(path, fsync=True) as draft:
        write_table(table, draft)


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `write_parquet` made, without the columns that a row has nothing in.

    Raises:
        ImportError, OSError, ValueError: see `table_rows`.
    """
    rows = table_rows(path)
    return [{name: value for name, value in row.items() if value is not None or name not in OPTIONAL} for row in rows]


def _is_ours(path: Path) -> bool:
    try:
        return all(set(NAMES) - set(OPTIONAL) <= set(row) for row in table_rows(path))
    except (OSError, ValueError):
        return False


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    try:
        import pyarrow as pa
        from pyarrow.parquet import write_table
    except ImportError as error:
        raise ImportError(NEEDED) from error
    kinds = _kinds(pa)
    made = {}
    for name in dict.fromkeys([*NAMES, *(name for row in rows for name in row)]):
        values = [row.get(name) for row in rows]
        try:
            made[name] = pa.array(values, kinds.get(name))
            write_table(pa.table({name: made[name]}), pa.BufferOutputStream())  # tells of objects without fields
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
            raise ValueError(
                f"the column {name!r} does not fit one kind ({error}), which Parquet needs; write to a .jsonl file"
            ) from error
        if name not in kinds and made[name].to_pylist() != values:
            raise ValueError(
                f"the column {name!r} would not come back from Parquet as it is, as objects of different keys do not; "
                "write to a .jsonl file"
            )
    return pa.table(made)


def _kinds(pa: Any) -> dict[str, Any]:
    """Types of the columns that may be empty in one file and not in another; those of the others are what they hold."""
    texts = dict.fromkeys(("id", "answer", "error", "choice", "fingerprint", "note", "plan"), pa.string())
    numbers = dict.fromkeys(("tokens_full", "tokens_kept", "seed"), pa.int64())
    seconds = pa.struct([(stage, pa.float64()) for stage in STAGES])
    call = [(name, pa.string()) for name in ("purpose", "text")]
    call += [(name, pa.float64()) for name in ("start", "end", "seconds")]
    call += [(name, pa.int64()) for name in ("tokens_full", "tokens_kept")]
    listed = {"frames": pa.list_(pa.float64()), "calls": pa.list_(pa.struct(call))}
    return texts | numbers | listed | {"correct": pa.bool_(), "seconds": seconds}
