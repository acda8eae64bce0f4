"""The folder of a run on Ray: its tasks, its blocks of answers, and Ray's checkpoint, which knows what is written.

A block is a file of JSON lines `X.jsonl`. The checkpoint holds the keys of its tasks: in `X.pending.parquet` while the
block is written, in `X.parquet` from then on. Blocks in the first state are not whole; Ray removes them when it starts.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .records import rows

TASKS, CHECKPOINT = "tasks.parquet", "checkpoint"
PENDING, COMMITTED = ".pending.parquet", ".parquet"


@dataclass(frozen=True)
class Task:
    """What one actor answers at once.

    Attributes:
        key: unique, and another one wherever the answers could be others: what is written is known by it.
        payload: what the actor is given.
    """

    key: str
    payload: str


def write_tasks(tasks: Sequence[Task], out: Path, retry: bool = False) -> None:
    """Writes the tasks as the file that Ray reads: its checkpoint filters what comes out of a file, and that alone.

    Args:
        tasks: at least one; those that `out` holds answers of are all among them.
        out: a folder; made if it is not there.
        retry: blocks that hold an error are taken back, so that their tasks are answered again. Killed on the way, it
            leaves a folder that can be gone on with, with some of them taken back.

    Raises:
        ValueError: no tasks, a key twice, or `out` holds answers of tasks that are not among `tasks`: with `retry`,
            other answers than errors.
        OSError: `out` cannot be written.
    """
    keys = {task.key for task in tasks}
    if not keys:
        raise ValueError("tasks is empty; expected at least one")
    if len(keys) < len(tasks):
        twice = Counter(task.key for task in tasks).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} stands for more than one task; expected each once")
    out.mkdir(parents=True, exist_ok=True)
    again = [note for note in committed(out) if _to_repeat(note, keys)] if retry else []
    if lost := {key for note in committed(out) if note not in again for key in keys_in(note)} - keys:
        raise ValueError(
            f"{out} holds answers to {len(lost)} tasks that are not asked for now: other questions, another job or "
            "changed media; write to another folder, start anew (--anew), or where those are errors ask again (--retry)"
        )
    _take_back(again)
    _save(tasks, out)


def _to_repeat(note: Path, keys: Set[str]) -> bool:
    """Whether a block holds an error, and nothing else that would be lost: its tasks are asked, or all is errors."""
    block = _block_of(note)
    failed = [row.get("error") is not None for row in rows(block)] if block.exists() else []
    return any(failed) and (all(failed) or keys.issuperset(keys_in(note)))


def _take_back(notes: Sequence[Path]) -> None:
    """Makes blocks count as not whole: Ray removes them when it starts, and answers their tasks."""
    for note in notes:
        os.replace(note, note.with_name(f"{note.stem}{PENDING}"))
    if notes:
        # A block that Ray removed while its note came back with a power cut would count as written.
        on_disk(notes[0].parent)


def _save(tasks: Sequence[Task], out: Path) -> None:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    columns = {name: pa.array([getattr(task, name) for task in tasks], pa.string()) for name in ("key", "payload")}
    fresh = out / f".{TASKS}.part"
    write_table(pa.table(columns), fresh, row_group_size=1024)
    os.replace(fresh, out / TASKS)


def answers(out: Path) -> Iterator[dict[str, Any]]:
    """The rows of all blocks that are whole."""
    for note in committed(out):
        if (block := _block_of(note)).exists():
            yield from rows(block)


def written(out: Path) -> set[str]:
    """Keys of the tasks whose blocks are whole."""
    return {key for path in committed(out) for key in keys_in(path)}


def committed(out: Path) -> list[Path]:
    """The checkpoint's notes of blocks that are whole, by name."""
    return [path for path in sorted((out / CHECKPOINT).glob(f"*{COMMITTED}")) if not path.name.endswith(PENDING)]


def pending_of(block: Path) -> Path:
    """The checkpoint's note of a block that is being written."""
    return block.parent / CHECKPOINT / f"{block.stem}{PENDING}"


def _block_of(note: Path) -> Path:
    return note.parent.parent / f"{note.stem}.jsonl"


def covered(keys: Collection[str], block: Path) -> bool:
    """Whether Ray's checkpoint has noted that `keys` are about to be written to `block`."""
    pending = pending_of(block)
    return pending.exists() and set(keys) <= set(keys_in(pending))


def keys_in(path: Path) -> Iterable[str]:
    """The keys in a note of Ray's checkpoint."""
    from pyarrow.parquet import read_table

    keys: list[str] = read_table(path).column("key").to_pylist()
    return keys


def on_disk(path: Path) -> None:
    """Waits until a file, or what a folder lists, would outlast a power cut.

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
