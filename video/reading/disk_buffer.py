"""Rows of floats as they come: in memory while they are few, in a temporary file where they are many."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
LARGE = 1 << 24
"""Bytes from which rows are kept in a file; 16 MiB are the `ColorLayout` of 5,000 frames."""


class DiskBackedRows:
    """Rows `[n, D]`, of which no more than `most` are expected. Closing it ends the rows that it gave.

    Args:
        most: how many rows may come.
        large: bytes of all of them from which a file keeps them, in the folder of `tempfile.gettempdir()`.
    """

    def __init__(self, most: int, large: int = LARGE) -> None:
        self._most, self._large, self._count, self._width = most, large, 0, 0
        self._held: Floats | None = None
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Floats) -> None:
        """Append `rows` `[n, D]`.

        Raises:
            OSError: there is no space for them in the folder of temporary files.
        """
        if not self._width:
            self._begin(rows.shape[1])
        assert self._count + len(rows) <= self._most, f"{self._count} + {len(rows)} rows of {self._most}"
        if self._held is not None:
            self._held[self._count : self._count + len(rows)] = rows
        else:
            self._write(np.ascontiguousarray(rows, dtype=np.float32))
        self._count += len(rows)

    @property
    def rows(self) -> Floats:
        """All rows so far, `[n, D]`, not to be written to; of a file they are mapped and not read."""
        if self._held is not None:
            return self._held[: self._count]
        if not self._count or self._file is None:
            return np.zeros((0, self._width), np.float32)
        return np.memmap(self._file, dtype=np.float32, mode="r", shape=(self._count, self._width))

    def close(self) -> None:
        """Free the rows, and delete the file."""
        self._held, self._count = None, 0
        if self._file is not None:
            with suppress(OSError):  # what could not be written is not wanted either
                self._file.close()

    def _begin(self, width: int) -> None:
        self._width = width
        size = self._most * width * 4
        if size < self._large:
            self._held = np.empty((self._most, width), np.float32)
            return
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if free < size:
            raise OSError(self._no_space(f"{free / 2**20:.4g} MiB are free"))
        # It has no name where the system allows that, so that nothing is left of it however this process ends.
        self._file = tempfile.TemporaryFile(prefix="vtc-")  # noqa: SIM115

    def _write(self, rows: Floats) -> None:
        assert self._file is not None
        try:
            self._file.write(rows.data)
            self._file.flush()  # a map of the file does not see what waits here
        except OSError as error:
            raise OSError(self._no_space(error.strerror or str(error))) from error

    def _no_space(self, why: str) -> str:
        need = self._most * self._width * 4 / 2**20
        return (
            f"{tempfile.gettempdir()}: no space for {need:.4g} MiB, which the features of {self._most} frames take "
            f"({why}); free some, name another folder with TMPDIR, or look at fewer frames a second"
        )


@contextmanager
def disk_backed_rows(most: int, large: int = LARGE) -> Iterator[DiskBackedRows]:
    """A `DiskBackedRows` that is closed behind the block."""
    held = DiskBackedRows(most, large)
    try:
        yield held
    finally:
        held.close()
