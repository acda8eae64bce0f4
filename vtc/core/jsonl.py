"""JSON Lines: one value a line, read with its number, and appended so that a kill tears the last line at most."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .json_text import loads


@dataclass(frozen=True)
class Line:
    """One line of a file.

    Attributes:
        raw: its bytes, with the newline where it has one.
        number: from 1.
        source: the file, as errors name it.
    """

    raw: bytes
    number: int
    source: str

    @property
    def place(self) -> str:
        """File and line, as errors name them."""
        return f"{self.source}, line {self.number}"

    @property
    def ended(self) -> bool:
        """Whether it has its newline. The last line of a file may lack it, by an editor or because a kill tore it."""
        return self.raw.endswith(b"\n")

    @property
    def blank(self) -> bool:
        """Whether there is nothing on it but white space."""
        return not self.raw.strip()

    def parse(self, remedy: str) -> Any:
        """Its JSON value; a byte order mark before it is passed over.

        Args:
            remedy: what to do about a line that is no JSON; ends the error.

        Raises:
            ValueError: naming file and line: it is empty, not UTF-8, or no JSON.
        """
        if self.blank:
            raise ValueError(f"{self.place} is empty; remove it")
        try:
            return loads(self.raw.rstrip(b"\r\n").decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.place} is not UTF-8 ({error.reason}); save the file as UTF-8") from error
        except ValueError as error:
            why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise ValueError(f"{self.place} is no JSON ({why}); {remedy}") from error

    def row(self, remedy: str) -> dict[str, Any]:
        """Its JSON object.

        Raises:
            ValueError: see `parse`; or it is JSON of another kind.
        """
        value = self.parse(remedy)
        if not isinstance(value, dict):
            raise ValueError(f"{self.place} is a JSON {type(value).__name__}, not an object; {remedy}")
        return value


def read_lines(path: str | Path, source: str | None = None) -> Iterator[Line]:
    r"""The lines of a file, one at a time. `\n` alone ends a line: JSON text may hold U+2028, U+0085 and their like.

    Args:
        source: how errors name the file; None: by its path.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            yield Line(raw, number, str(path) if source is None else source)


def append_line(
    file: BinaryIO, text: str, *, fsync: bool = False, write: Callable[[int, memoryview], int] = os.write
) -> None:
    """Append `text` and a newline to a file that is open for appending; of one that fails nothing stays.

    What the system has taken outlives this process, so that no buffer is in between; with `fsync` it outlives a power
    cut as well.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    handle, length = file.fileno(), os.fstat(file.fileno()).st_size
    rest = memoryview(f"{text}\n".encode())
    try:
        while rest:
            rest = rest[write(handle, rest) :]
        if fsync:
            os.fsync(handle)
    except BaseException:
        os.ftruncate(handle, length)
        raise
