"""The user's cache folder, and folders in it that are there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

DRAFT = ".part-"
FORGOTTEN = 24 * 3600.0
"""Seconds after which a draft is that of a process that was killed."""


def cache_folder() -> Path:
    """Where downloads are kept, it may not be there yet: `$VTC_CACHE`, `$XDG_CACHE_HOME/vtc` or `~/.cache/vtc`."""
    if own := os.environ.get("VTC_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # By its specification a relative path there is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "vtc"


@contextmanager
def new_folder(place: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Context manager: a draft folder, which becomes `place` when the block ends without an error.

    Killed at any moment, `place` is whole or is not there. Of several processes that make it at once the first one's
    stays, and the drafts of the others are removed: what they hold must be the same.

    Args:
        overwrite: what stands at `place` gives way, once the draft is whole.

    Yields:
        The path of the draft, an empty folder beside `place`.

    Raises:
        OSError: it cannot be written or put in place; the draft is removed, as it is on any error in the block.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep(place.parent)
    draft = place.with_name(f"{place.name}{DRAFT}{uuid4().hex[:12]}")
    draft.mkdir()
    try:
        yield draft
        if overwrite and place.exists():
            place.rename(draft.with_name(f"{draft.name}-old"))
        try:
            draft.rename(place)
        except OSError:
            if not place.is_dir():
                raise
    finally:
        for leftover in (draft, draft.with_name(f"{draft.name}-old")):
            shutil.rmtree(leftover, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove the drafts of killed processes."""
    for draft in parent.glob(f"*{DRAFT}*"):
        with suppress(FileNotFoundError):  # another process sweeps too
            if time.time() - draft.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(draft, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Bytes of all files in `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
