"""Tasks answered by actors on a Ray cluster and written as blocks, each exactly once: what Ray is asked for.

One row of Ray's data is one task (the questions of one medium), so that its answers stand or fall together however Ray
cuts its blocks. Ray's checkpoint (Ray 2.60, `CheckpointConfig`, beta) notes which tasks are written, in two phases with
the file itself. It switches itself off in plans that it does not know, with a warning or (where rows do not come out
of a file) without one: then it notes what is written but filters nothing. Both are refused here.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, BinaryIO

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import BlockBasedFileDatasink

from vtc.core.files import on_disk

from .folder import (
    PENDING,
    TASKS,
    CheckpointError,
    checkpoint,
    covered,
    written,
)

OFF = "off"
NOT_COVERED = "Ray's checkpoint is off: it has not noted what is about to be written"
PAUSE = 0.5
"""Seconds between two looks at whether to stop."""
FILTER_BYTES = 192 << 20
"""Memory reserved for Ray's filter of finished tasks, which holds their keys alone; Ray reserves 1 GiB otherwise."""

Answer = Callable[[str], Iterable[dict[str, Any]]]


@dataclass(frozen=True)
class Actors:
    """Which actors answer.

    Attributes:
        size: how many, each with a model of its own.
        num_cpus: CPU cores that Ray sets aside for each. Two must be left to Ray, for its filter of finished tasks and
            for reading and writing in turn: without them it waits for ever.
        num_gpus: GPUs for each.
        max_errors: no further task is begun when there are more rows with an error; None: any number.
    """

    size: int
    num_cpus: float = 0.0
    num_gpus: float = 0.0
    max_errors: int | None = None


class Ended(RuntimeError):
    """No further task is begun; the message is why: `max_errors` or `interrupted`."""


def answer_tasks(
    make: Callable[[], Answer], out: Path, actors: Actors, stop: Callable[[], bool] = lambda: False
) -> str:
    """Answer each task of `out` that it does not hold yet and write its rows there, as files of JSON lines.

    Args:
        make: called once in each actor; gives what answers a payload with its rows. Travels by pickle.
        out: a folder that all nodes see at this path, with tasks as `write_tasks` writes them.
        actors: which actors answer.
        stop: asked twice a second, in a thread; where it is true, what is in hand is finished and no more begun.

    Returns:
        Why the run ended before all were answered: `max_errors`, `interrupted`, or empty where all were.

    Raises:
        OSError: `out` cannot be written.
        CheckpointError: Ray would run without its checkpoint.
    """
    with DataContext.current(context(out)):
        # A block of one task is written, and noted as done, as soon as it is answered.
        data = ray.data.read_parquet(str(out / TASKS)).repartition(target_num_rows_per_block=1)
        return answer_data(data, make, out, actors, stop)


def answer_data(
    data: Dataset, make: Callable[[], Answer], out: Path, actors: Actors, stop: Callable[[], bool] = lambda: False
) -> str:
    """As `answer_tasks`, for rows `key` and `payload` of a dataset that was made under `context(out)`."""
    tally = _Tally.remote(actors.max_errors)  # type: ignore[attr-defined]
    answered = data.map(
        _Worker,  # type: ignore[arg-type]  # a class with __call__, as Ray documents
        fn_constructor_args=(make, tally, written(out)),
        compute=ActorPoolStrategy(size=actors.size, max_tasks_in_flight_per_actor=1),
        num_cpus=actors.num_cpus,
        num_gpus=actors.num_gpus or None,
    )
    with _watched(stop, tally):
        try:
            write(answered, Lines(out))
        except Exception:
            # Ray wraps what a worker raised in more than one way; the tally knows whether it was asked to.
            why = str(ray.get(tally.why.remote()))
            if why == OFF:
                raise CheckpointError(
                    "Ray's checkpoint is off: it does not filter what is answered already (does the plan read a file?)"
                ) from None
            if why:
                return why
            raise
    return ""


def write(data: Dataset, sink: Lines) -> None:
    """Write the column `rows` of `data`, with Ray's checkpoint or not at all.

    Raises CheckpointError where Ray plans without it, and where a file is about to be written that it does not cover.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*Checkpointing will be disabled")
        try:
            data.write_datasink(sink)
        except UserWarning as warning:
            raise CheckpointError(f"Ray's checkpoint is off, so a cut-off run would answer again: {warning}") from None


class Lines(BlockBasedFileDatasink):
    """JSON lines as the actors wrote them; Ray's own writers round numbers and unite columns.

    Args:
        out: a folder that all nodes see at this path.
        sync: waits until a path is on the disk.
    """

    def __init__(self, out: Path, sync: Callable[[Path], None] = on_disk) -> None:
        super().__init__(str(out), file_format="jsonl")
        self._sync, self._checkpoint = sync, checkpoint(out)

    @contextmanager
    def open_output_stream(self, path: str) -> Iterator[BinaryIO]:
        """The file of a block, which is on the disk when it is closed; CheckpointError unless the checkpoint notes it.

        Ray commits its note after that. The note is on the disk before the block: a block that outlasted a power cut
        without it would be answered twice.
        """
        block = Path(path)
        pending = self._note_of(block)
        if not pending.exists():
            raise CheckpointError(NOT_COVERED)
        self._sync(pending)
        self._sync(pending.parent)
        with open(block, "wb") as file:
            yield file
        self._sync(block)
        self._sync(block.parent)

    def write_block_to_file(self, block: Any, file: Any) -> None:
        """Write the rows of one block; CheckpointError unless the checkpoint covers all of them."""
        table = block.to_arrow()
        if not covered(table.column("key").to_pylist(), self._note_of(Path(file.name))):
            raise CheckpointError(NOT_COVERED)
        for rows in table.column("rows").to_pylist():
            file.write(rows.encode())

    def _note_of(self, block: Path) -> Path:
        return self._checkpoint / f"{block.stem}{PENDING}"


@ray.remote(num_cpus=0)
class _Tally:
    """Counts the rows with an error over all actors, and knows whether to begin another task."""

    def __init__(self, limit: int | None) -> None:
        self._limit, self._count, self._why = limit, 0, ""

    def add(self, errors: int) -> None:
        """Count rows with an error."""
        self._count += errors
        if self._limit is not None and self._count > self._limit:
            self.end("max_errors")

    def end(self, why: str) -> None:
        """Begin no further task."""
        self._why = self._why or why

    def why(self) -> str:
        """Return why no further task is to be begun; empty: go on."""
        return self._why


class _Worker:
    """One model in one actor."""

    def __init__(self, make: Callable[[], Answer], tally: Any, done: Collection[str]) -> None:
        self._answer, self._tally, self._done = make(), tally, done

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        if task["key"] in self._done:
            ray.get(self._tally.end.remote(OFF))
        # Before a task and not after it, so that the rows that were too many are written.
        if why := ray.get(self._tally.why.remote()):
            raise Ended(why)
        rows = list(self._answer(task["payload"]))
        ray.get(self._tally.add.remote(sum(row.get("error") is not None for row in rows)))
        return {"key": task["key"], "rows": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)}


@contextmanager
def _watched(stop: Callable[[], bool], tally: Any) -> Iterator[None]:
    """Ask `stop` while Ray has the caller's thread."""
    over = Event()

    def watch() -> None:
        """Poll `stop` until it is true, or the run is over."""
        while not over.wait(PAUSE):
            if stop():
                tally.end.remote("interrupted")
                return

    thread = Thread(target=watch, name="vtc-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def context(out: Path) -> DataContext:
    """A copy of the caller's context, with the checkpoint under `out`."""
    copied = DataContext.get_current().copy()
    config = CheckpointConfig("key", str(checkpoint(out)), delete_checkpoint_on_success=False)
    config.checkpoint_actor_memory_bytes = FILTER_BYTES
    copied.checkpoint_config = config
    return copied
