"""Folders of the user's cache: whole or not there, whoever is killed and however many make them at once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .files import sha256_of

MANIFEST = "vtc.json"
"""Lists the files of a folder, beside what else there is to say of it."""
DRAFT, REPLACED = ".part", ".old"
"""Behind the name of a folder: what is being made, and what gives way to it."""
PATIENCE = 1800.0
"""Seconds to wait for another process that makes the same folder."""


def cache_folder() -> Path:
    """Where downloads are kept, it may not be there yet: `$VTC_CACHE`, `$XDG_CACHE_HOME/vtc` or `~/.cache/vtc`.

    Raises:
        ValueError: a home folder that cannot be found.
    """
    own, base = os.environ.get("VTC_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    try:
        if own:
            return Path(own).expanduser().absolute()
        # By its specification a relative path there is to be ignored.
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "vtc"
    except RuntimeError as error:
        raise ValueError(f"the cache folder cannot be found ({error}); set VTC_CACHE to a path of a folder") from error


def make_folder(
    place: Path,
    fill: Callable[[Path], Mapping[str, Any]],
    *,
    overwrite: bool = False,
    on_wait: Callable[[str], None] = lambda why: None,
) -> Path:
    """Return the folder `place`, which `fill` makes where it is not there as a whole.

    Killed at any moment, `place` is whole or is not there, and what was half-made is removed by the next call. Of
    several processes that make it at once one does, and the others wait for it.

    Args:
        fill: writes the content into an empty folder, and returns what else the manifest is to say.
        overwrite: make it again; what stands there gives way once the new one is whole.
        on_wait: called with the reason, once, if another process is making it.

    Raises:
        OSError: it cannot be written, or another process does not come to an end.
    """
    if not overwrite and fault(place) is None:
        return place
    with _locked(place, on_wait):
        _restore(place)
        if overwrite or fault(place) is not None:
            _make(place, fill)
    return place


def _make(place: Path, fill: Callable[[Path], Mapping[str, Any]]) -> None:
    draft, replaced = place.with_name(place.name + DRAFT), place.with_name(place.name + REPLACED)
    try:
        draft.mkdir()
        facts = fill(draft)
        manifest = {**facts, "files": dict(_files(draft))}
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if place.exists():
            place.rename(replaced)
        draft.rename(place)
    finally:
        _restore(place)


def _restore(place: Path) -> None:
    """Put back what gave way to a folder that was never put in place; remove what is half-made or replaced."""
    draft, replaced = place.with_name(place.name + DRAFT), place.with_name(place.name + REPLACED)
    if replaced.exists() and not place.exists():
        replaced.rename(place)
    for leftover in (draft, replaced):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _locked(place: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of `place`, which the system releases when its holder dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait(f"waiting for another process that makes {place}")
            lock.acquire(timeout=PATIENCE)
    except Timeout as error:
        raise TimeoutError(f"another process has been making {place} for {PATIENCE:.0f} s; end it") from error
    except NotImplementedError as error:
        raise OSError(f"{place.parent} cannot be locked; set VTC_CACHE to a folder on a local disk") from error
    except OSError as error:
        raise OSError(
            f"{place.parent} cannot be written ({error.strerror or error}); set VTC_CACHE to a folder that can"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _files(folder: Path) -> Iterator[tuple[str, dict[str, object]]]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found = path.stat()
        facts: dict[str, object] = {"bytes": found.st_size, "written": found.st_mtime_ns, "sha256": sha256_of(path)}
        yield path.relative_to(folder).as_posix(), facts


def fault(folder: Path) -> str | None:
    """What is wrong with a folder that `make_folder` makes, in words that follow its name; None if it is whole.

    A file of the size and the time that it was written with counts as whole; of any other the digest is compared.
    """
    if not folder.is_dir():
        return f"is not in {folder.parent}"
    try:
        files = manifest(folder)["files"]
        wrong = next((name for name, facts in files.items() if _is_damaged(folder / name, facts)), None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"in {folder} is damaged ({error})"
    return None if wrong is None else f"in {folder} is damaged ({wrong} is not what was written)"


def _is_damaged(path: Path, facts: Mapping[str, Any]) -> bool:
    found = path.stat()
    if found.st_size != facts["bytes"]:
        return True
    return found.st_mtime_ns != facts["written"] and sha256_of(path) != facts["sha256"]


def manifest(folder: Path) -> dict[str, Any]:
    """What the manifest of a folder says.

    Raises:
        OSError, ValueError: there is none that can be read.
    """
    made = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(made, dict):
        raise ValueError(f"{MANIFEST} holds no object")
    return made


def size_of(folder: Path) -> int:
    """Bytes of all files in `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
