"""The folder of a run on Ray: its tasks, its blocks of answers, and Ray's checkpoint, which knows what is written.

A block is a file of JSON lines `X.jsonl`. The checkpoint holds the keys of its tasks: in `X.pending.parquet` while the
block is written, in `X.parquet` from then on. Blocks in the first state are not whole; Ray removes them when it starts.
Where a driver was killed, its workers go on for some seconds: each run gives the checkpoint another name, under which
they note nothing, so that a block that they finish is none.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtc.core.files import on_disk, replacing
from vtc.video.batch.journal import rows

TASKS, CHECKPOINT, LOCK = "tasks.parquet", "ray-checkpoint", "lock"
ATTEMPTS = "attempts"
"""The folder of notes of tasks that were begun, see `attempts.Attempts`."""
PENDING, COMMITTED = ".pending.parquet", ".parquet"


class CheckpointError(RuntimeError):
    """Ray's checkpoint cannot be relied on: it is off, or its files were removed."""


@dataclass(frozen=True)
class Task:
    """One task of an actor.

    Attributes:
        key: unique, and another one wherever the answers could be others: what is written is known by it.
        payload: what the actor is given.
    """

    key: str
    payload: str


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Context manager: locks the folder, which is made where it is missing, for one driver.

    Raises:
        BlockingIOError: another one has it.
        OSError: it cannot be made or written.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open(out / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"out={out}: another driver is writing to it; wait for it, or write to another folder"
            ) from None
        yield


def write_tasks(tasks: Sequence[Task], out: Path) -> None:
    """Write the tasks as the file that Ray reads: its checkpoint filters what comes out of a file, and that alone.

    Args:
        tasks: at least one.
        out: a folder; made if it is not there.

    Raises:
        ValueError: no tasks, or a key twice.
        OSError: `out` cannot be written.
    """
    counts = Counter(task.key for task in tasks)
    if not counts:
        raise ValueError("tasks is empty; expected at least one")
    key, count = counts.most_common(1)[0]
    if count > 1:
        raise ValueError(f"the key {key!r} stands for more than one task; expected each once")
    out.mkdir(parents=True, exist_ok=True)
    _fence(out)
    _save(tasks, out)


def take_back_errors(out: Path, wanted: Set[str]) -> None:
    """Make blocks count as not written in which the answer to one of `wanted` is an error, so that it is asked again.

    Killed on the way, it leaves a folder that can be gone on with, with some of them taken back.

    Raises:
        ValueError: answers to others would be lost with one.
        OSError: `out` cannot be written.
    """
    again = []
    for note in committed(out):
        block = _block_of(note)
        found = list(rows(block)) if block.exists() else []
        if not any(row["error"] is not None and row["id"] in wanted for row in found):
            continue
        if lost := [row["id"] for row in found if row["error"] is None and row["id"] not in wanted]:
            raise ValueError(
                f"{block} holds errors to ask again (--retry) beside the answer to {lost[0]!r}, which is not asked for "
                "now and would be lost; ask for it too"
            )
        again.append(note.stem)
    if again:
        _fence(out)
        _take_back(out, again)


def _fence(out: Path) -> None:
    """Return the checkpoint the next name, or makes it."""
    now = checkpoint(out)
    fresh = out / f"{CHECKPOINT}-{_number(now) + 1}"
    if now.exists():
        os.replace(now, fresh)
    else:
        fresh.mkdir()


def _take_back(out: Path, names: Sequence[str]) -> None:
    """Make blocks count as not whole: Ray removes them when it starts, and answers their tasks."""
    folder = checkpoint(out)
    for name in names:
        os.replace(folder / f"{name}{COMMITTED}", folder / f"{name}{PENDING}")
    if names:
        # A block that Ray removed while its note came back with a power cut would count as written.
        on_disk(folder)


def clear(out: Path) -> None:
    """Throw away what an earlier run wrote, and nothing else. Killed on the way, it leaves a folder to go on with.

    The checkpoint stays, empty: the next one must have a name that no earlier worker knows.
    """
    if not checkpoint(out).exists():
        return
    _fence(out)
    _take_back(out, [note.stem for note in committed(out)])
    for note in checkpoint(out).iterdir():
        _block_of(note).unlink(missing_ok=True)
        note.unlink()
    (out / TASKS).unlink(missing_ok=True)
    for note in (out / ATTEMPTS).glob("*"):
        note.unlink(missing_ok=True)


def _save(tasks: Sequence[Task], out: Path) -> None:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    columns = {name: pa.array([getattr(task, name) for task in tasks], pa.string()) for name in ("key", "payload")}
    with replacing(out / TASKS) as draft:
        write_table(pa.table(columns), draft, row_group_size=1024)


def checkpoint(out: Path) -> Path:
    """Ray's checkpoint, which may not be there yet."""
    return max(out.glob(f"{CHECKPOINT}*"), key=_number, default=out / CHECKPOINT)


def _number(folder: Path) -> int:
    number = folder.name.removeprefix(CHECKPOINT).removeprefix("-")
    return int(number) if number.isdecimal() else 0


def committed(out: Path) -> list[Path]:
    """The checkpoint's notes of blocks that are whole, by name."""
    return [path for path in sorted(checkpoint(out).glob(f"*{COMMITTED}")) if not path.name.endswith(PENDING)]


def blocks(out: Path) -> list[Path]:
    """The files of blocks that are whole, by name."""
    return [block for block in map(_block_of, committed(out)) if block.exists()]


def _block_of(note: Path) -> Path:
    return note.parent.parent / f"{note.name.removesuffix(PENDING).removesuffix(COMMITTED)}.jsonl"


def answers(out: Path) -> Iterator[dict[str, Any]]:
    """The rows of all blocks that are whole."""
    return (row for block in blocks(out) for row in rows(block))


def written(out: Path) -> set[str]:
    """Keys of the tasks whose blocks are whole."""
    return {key for note in committed(out) for key in keys_in(note)}


def covered(keys: Collection[str], pending: Path) -> bool:
    """Return whether a note of Ray's checkpoint says that `keys` are about to be written."""
    return pending.exists() and set(keys) <= set(keys_in(pending))


def keys_in(path: Path) -> Iterable[str]:
    """The keys in a note of Ray's checkpoint."""
    from pyarrow.parquet import read_table

    keys: list[str] = read_table(path).column("key").to_pylist()
    return keys
