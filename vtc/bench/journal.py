"""Journal of a run: an append-only file of answers, from which a killed run goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from vtc.core.budget import Keep
from vtc.core.files import replace_text
from vtc.core.json_text import loads
from vtc.core.jsonl import append_line, read_lines

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
        """The key of its variant."""
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
        """Open the rows in `out`, or begin them.

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
            kept = [row for row in read_rows(self._path, "pass --overwrite to begin again") if row.error is None]
            self.rows = {row.key: row for row in kept}
            replace_text(self._path, "".join(f"{_text(row)}\n" for row in kept))
        replace_text(out / CONFIG, json.dumps(config, indent=1) + "\n")
        self._file = self._path.open("ab")

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, row: BenchRow) -> None:
        """Append `row` and hands it to the system, so that the death of this process loses nothing."""
        self.rows[row.key] = row
        append_line(self._file, _text(row))


def _text(row: BenchRow) -> str:
    return json.dumps({name: value for name, value in asdict(row).items() if value is not None})


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


def read_rows(path: Path, remedy: str) -> Iterator[BenchRow]:
    """The rows of a run, without a last line that was torn by a kill.

    Args:
        remedy: what to do about a line that is no row.

    Raises:
        OSError: it cannot be read.
        ValueError: a line that is no row, by its number.
    """
    for line in read_lines(path):
        if not line.ended:
            return
        row = line.row(remedy)
        try:
            yield BenchRow(**row)
        except TypeError as error:
            raise ValueError(f"{line.place} is no row of a run ({error}); {remedy}") from error
