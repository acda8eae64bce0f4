"""A finished benchmark of `vtc bench quality`, as it lies in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtc.bench.journal import ROWS, BenchRow, read_rows
from vtc.bench.quality import NAME
from vtc.bench.results import SCHEMA
from vtc.bench.variants import ALL_TOKENS
from vtc.core.json_text import loads

Rows = Mapping[tuple[str, str], BenchRow]
"""One model's, by variant key and case."""
NEEDED = ("schema", "versions", "config", "config_hash", "bootstrap", "models")


@dataclass(frozen=True)
class BenchmarkRun:
    """A finished benchmark.

    Attributes:
        document: what `vtc.bench.results.document` made.
        rows: of each model.
    """

    document: Mapping[str, Any]
    rows: Mapping[str, Rows]


def read_run(folder: Path) -> BenchmarkRun:
    """The benchmark in `folder`.

    Raises:
        OSError: a file of it is missing.
        ValueError: a file of it is none of a benchmark of this version.
    """
    path = folder / f"{NAME}.json"
    again = f"run `vtc bench quality --out {folder}` again, with what it was run with"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {NAME}.json, so no benchmark has ended there; {again}")
    try:
        document = loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); {again}") from error
    missing = [name for name in NEEDED if not isinstance(document, dict) or name not in document]
    if missing or document["schema"] != SCHEMA:
        why = f"lacks {', '.join(missing)}" if missing else f"has schema {document['schema']!r}, not {SCHEMA}"
        raise ValueError(f"{path} {why}; {again}")
    if not (folder / ROWS).is_file():
        raise FileNotFoundError(f"{folder / ROWS} is missing, and the answers were in it; {again}")
    rows: dict[str, dict[tuple[str, str], BenchRow]] = {}
    for row in read_rows(folder / ROWS, again):
        rows.setdefault(row.model, {})[row.variant, row.id] = row
    return BenchmarkRun(document, rows)


def right(row: BenchRow | None, metric: str) -> bool | None:
    """Return whether an answer is right by `metric` (`exact` or `agreement`); None where that is not known."""
    if row is None or row.error is not None:
        return None
    return row.exact if metric == "exact" else row.agree


def full_row(rows: Rows, id: str) -> BenchRow | None:
    """Return the row of the full model for the case."""
    return rows.get((ALL_TOKENS.key, id))


def swaps(rows: Rows, variant: str, metric: str) -> tuple[list[str], list[str]]:
    """The cases that all tokens answer right and `variant` does not, and the other way round."""
    lost, gained = [], []
    for (key, id), row in rows.items():
        if key == variant and id:
            full, own = right(full_row(rows, id), metric), right(row, metric)
            lost += [id] * (full is True and own is False)
            gained += [id] * (full is False and own is True)
    return lost, gained
