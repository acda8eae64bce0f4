"""Files on disk that are replaced as a whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK = 2**20


def is_same_file(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths, of files that may not be there, are one file."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


@contextmanager
def replacing(path: Path, *, fsync: bool = False) -> Iterator[Path]:
    """Context manager: a draft to write, which takes the place of `path` when the block ends without an error.

    Killed at any moment, `path` is what it was or what it is to become. Of a link, what it leads to is replaced. Two
    processes must not replace one file at once: they would share the draft, whose fixed name lets a later one sweep up
    after one that was killed.

    Args:
        fsync: wait until the draft would outlast a power cut before it takes its place.

    Yields:
        The path of the draft, beside the file; nothing is there yet.

    Raises:
        OSError: it cannot be written or put in place; the draft is removed, as it is on any error in the block.
    """
    home = Path(os.path.realpath(path))
    draft = home.with_name(f".{home.name[:200]}.part")
    draft.unlink(missing_ok=True)  # of a writer that was killed
    try:
        yield draft
        if fsync:
            on_disk(draft)
        os.replace(draft, home)
    finally:
        draft.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Make `text` (in UTF-8) the content of `path`, see `replacing`."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def on_disk(path: Path) -> None:
    """Wait until a file, or what a folder lists, would outlast a power cut.

    Raises OSError where that fails, except for a folder on a file system that has no such thing.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, hexadecimal, read block by block."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            made.update(block)
    return made.hexdigest()
