"""Parquet files as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ENDING = ".parquet"
NEEDED = "Parquet needs pyarrow; pip install pyarrow, or use a .jsonl file"


def table_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file.

    Raises:
        ImportError: pyarrow is not installed.
        OSError: it cannot be read.
        ValueError: it is no Parquet file.
    """
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_table
    except ImportError as error:
        raise ImportError(f"{path}: {NEEDED}") from error
    try:
        rows: list[dict[str, Any]] = read_table(path).to_pylist()
    except ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file ({error}); write it again") from error
    return rows
