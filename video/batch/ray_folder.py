"""The folder of a run on Ray: its tasks, its blocks of answers, and Ray's checkpoint, which knows what is written.

A block is a file of JSON lines `X.jsonl`. The checkpoint holds the keys of its tasks: in `X.pending.parquet` while the
block is written, in `X.parquet` from then on. Blocks in the first state are not whole; Ray removes them when it starts.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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


def write_tasks(tasks: Sequence[Task], out: Path) -> None:
    """Writes the tasks as the file that Ray reads: its checkpoint filters what comes out of a file, and that alone.

    Raises:
        ValueError: no tasks, a key twice, or `out` holds answers of tasks that are not among `tasks`.
        OSError: `out` cannot be written.
    """
    import pyarrow as pa
    from pyarrow.parquet import write_table

    keys = [task.key for task in tasks]
    if not keys:
        raise ValueError("tasks is empty; expected at least one")
    if twice := [key for key, count in Counter(keys).items() if count > 1]:
        raise ValueError(f"the key {twice[0]!r} stands for more than one task; expected each once")
    out.mkdir(parents=True, exist_ok=True)
    if lost := written(out).difference(keys):
        raise ValueError(
            f"{out} holds answers to {len(lost)} tasks that are not asked for now: other questions, another job or "
            "changed media; write to another folder, or start anew (--anew)"
        )
    table = pa.table({"key": pa.array(keys, pa.string()), "payload": pa.array([t.payload for t in tasks], pa.string())})
    fresh = out / f".{TASKS}.part"
    write_table(table, fresh, row_group_size=1024)
    os.replace(fresh, out / TASKS)


def written(out: Path) -> set[str]:
    """Keys of the tasks whose blocks are whole."""
    return {key for path in committed(out) for key in keys_in(path)}


def committed(out: Path) -> Iterator[Path]:
    """The checkpoint's files of blocks that are whole, by name."""
    found = sorted((out / CHECKPOINT).glob(f"*{COMMITTED}"))
    return (path for path in found if not path.name.endswith(PENDING))


def pending_of(block: Path) -> Path:
    """The checkpoint's file of a block that is being written."""
    return block.parent / CHECKPOINT / f"{block.stem}{PENDING}"


def covered(keys: Collection[str], block: Path) -> bool:
    """Whether Ray's checkpoint has noted that `keys` are about to be written to `block`."""
    pending = pending_of(block)
    return pending.exists() and set(keys) <= set(keys_in(pending))


def keys_in(path: Path) -> Iterable[str]:
    """The keys in a file of Ray's checkpoint."""
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
