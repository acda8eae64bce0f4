"""Journal of a run: an append-only file of answers, from which a killed run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from vtc.core.budget import Keep
from vtc.core.json_text import loads

ROWS, CONFIG = "rows.jsonl", "config.json"


@dataclass(frozen=True)
class BenchRow:
    """One answer, or why there is none.

    Attributes:
        model, name, keep, id: which variant answered which case; `id` is empty where the model refuses the whole
            variant.
        given: the answer.
        tokens: visual tokens that reached the language model.
        layers: visual tokens that each of its layers was given, on average.
        agree: whether it is the full model's answer, blind to case and outer blanks.
        exact: whether it is the true one; None where that is not known.
        kl: mean KL divergence in nats from the full model's distribution, over the tokens of the full model's answer.
        error: why this case has no answer.
        refused: why the model does not take the recipe.
    """

    model: str
    name: str
    keep: Keep
    id: str
    given: str = ""
    tokens: int = 0
    layers: float = 0.0
    agree: bool | None = None
    exact: bool | None = None
    kl: float | None = None
    error: str | None = None
    refused: str | None = None

    @property
    def variant(self) -> str:
        """The key of its variant; see `Arm.key`."""
        return f"{self.name}@{self.keep!r}"

    @property
    def key(self) -> tuple[str, str, str]:
        """Model, variant and case."""
        return self.model, self.variant, self.id


class RowFile:
    """The rows of a run in a directory, open for more.

    Attributes:
        rows: by key; what a later run wrote goes before what an earlier one did.
    """

    def __init__(self, out: Path, config: Mapping[str, Any], overwrite: bool = False) -> None:
        """Open the rows in `out`, or begins them.

        Rows of errors are dropped, so that they are tried again, and so is a last line that was torn by a kill.

        Raises:
            ValueError: `out` holds a run of another configuration, or a line that is no row.
            OSError: `out` cannot be written.
        """
        self._path = out / ROWS
        self.rows: dict[tuple[str, str, str], BenchRow] = {}
        out.mkdir(parents=True, exist_ok=True)
        if overwrite:
            self._path.unlink(missing_ok=True)
        elif self._path.exists():
            _check_config(out, config)
            kept = [row for row in _read(self._path) if row.error is None]
            self.rows = {row.key: row for row in kept}
            _replace(self._path, "".join(map(_line, kept)))
        _replace(out / CONFIG, json.dumps(config, indent=1) + "\n")
        self._file = self._path.open("a", encoding="utf-8")

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, row: BenchRow) -> None:
        """Append `row` and hands it to the system, so that the death of this process loses nothing."""
        self.rows[row.key] = row
        self._file.write(_line(row))
        self._file.flush()


def _line(row: BenchRow) -> str:
    return json.dumps({name: value for name, value in asdict(row).items() if value is not None}) + "\n"


def _replace(path: Path, text: str) -> None:
    """Write all of a file or nothing."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def _check_config(out: Path, config: Mapping[str, Any]) -> None:
    remedy = "pass another --out, or --overwrite to begin again"
    try:
        held = loads((out / CONFIG).read_text(encoding="utf-8"))
        here = json.loads(json.dumps(config))  # as it would come back: schedules are pairs, in a file lists
        differing = [name for name in {**held, **here} if held.get(name) != here.get(name)]
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"--out {out} holds {ROWS}, but no {CONFIG} that says of what run ({error}); {remedy}"
        ) from error
    if differing:
        listed = "; ".join(
            f"{name}: {_short(held.get(name))} there, {_short(config.get(name))} here" for name in differing
        )
        raise ValueError(f"--out {out} holds a run of another configuration ({listed}); {remedy}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read(path: Path) -> list[BenchRow]:
    names = {field.name for field in fields(BenchRow)}
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is empty, or was torn
        try:
            entry = loads(line)
            if not set(entry) <= names:
                raise ValueError(f"unknown entries {sorted(set(entry) - names)}")
            rows.append(BenchRow(**entry))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number} is no row of a run ({error}); pass --overwrite to begin again"
            ) from error
    return rows
