"""The batch on a Ray cluster: the same answerer in actors, one model each, over `ray.data`."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vtc.recipes.composition import Recipe
from vtc.video.batch.attempts import ENDING, Attempts
from vtc.video.batch.config import Job
from vtc.video.batch.engine import (
    ProgressCallback,
    _check,
    check_place,
    chosen_groups,
)
from vtc.video.batch.fingerprints import fingerprint
from vtc.video.batch.journal import check_bound
from vtc.video.batch.questions import (
    Group,
    Question,
    grouped,
    one_by_one,
    read_questions,
    slimmed,
)
from vtc.video.batch.summary import Summary, Tally

from .folder import (
    ATTEMPTS,
    CheckpointError,
    Task,
    answers,
    locked,
    take_back_errors,
    write_tasks,
)
from .output import Place

LEFT_TO_RAY = 2
"""CPU cores that Ray's own actors and tasks need: with fewer, it waits for ever."""


def answer_batch_on_ray(
    questions: str | Path | Sequence[Question],
    out: str | Path,
    *,
    recipe: str | Path | Recipe | None = None,
    job: Job | None = None,
    shard: tuple[int, int] | None = None,
    workers: int | None = None,
    limit: int | None = None,
    max_errors: int | None = None,
    root: str | Path | None = None,
    allow_urls: bool = False,
    overwrite: bool = False,
    retry: bool = False,
    slim: bool = False,
    progress: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
    **fields: Any,
) -> Summary:
    """As `answer_batch`, on the Ray cluster that is connected, or else on one of this machine's cores and GPUs.

    Rows are those of the local engine. Those of one stretch of one medium are one block, a file of its own, and are
    written exactly once: Ray's checkpoint beside the blocks knows them, and a run that was cut off goes on. Media are
    read where the actors are, so paths must be good on every node.

    Args:
        out: a .jsonl or .parquet file, which is written when all are answered, from the blocks in `OUT.blocks` beside
            it; or a folder for the blocks, which `vtc merge` joins. Every node sees it at this path.
        workers: how many actors; None: one for each GPU, or one where there is none.
        progress: called at the beginning and at the end; Ray prints what happens between.
        retry: ask again where `out` holds an error; questions about one stretch of one medium are asked together.
        questions, recipe, job, shard, limit, max_errors, root, allow_urls, overwrite, slim, stop, fields: see
            `answer_batch`.

    Raises:
        ImportError: Ray is not installed.
        OSError, TypeError, ValueError: see `answer_batch`; another driver writes there; a cluster with fewer than two
            CPU cores.
        CheckpointError: Ray would run without its checkpoint, or blocks were taken out of its folder.
    """
    if job is not None and (fields or recipe is not None):
        given = [*(["recipe"] if recipe is not None else []), *fields]
        raise TypeError(f"job and {', '.join(given)} were both given; pass the job alone")
    job, place = job or Job.of(recipe, **fields), Place(Path(out).absolute())
    if not job.in_process:
        raise ValueError(
            "on Ray a model of transformers answers in each actor; leave engine and endpoint out of the job"
        )
    _check(workers=1 if workers is None else workers, limit=limit, max_errors=max_errors)
    check_place(questions, place.out)
    listed = _listed(questions, root, allow_urls)
    listed = slimmed(listed) if slim else listed
    groups = chosen_groups(listed, shard=shard, limit=limit)
    wanted = {question.id: question.medium for group in groups for question in group.questions}
    asked = [question for question in listed if question.id in wanted]
    place.check(asked, overwrite)
    blocks = _blocks()
    tell = progress or (lambda done, total: None)
    with locked(place.folder):
        if overwrite:
            place.clear()
        done = _bound(job, asked, place.folder, retry)
        before = len(wanted.keys() & done)
        tell(before, len(wanted))
        stopped, seconds = "", 0.0
        if left := [q for group in groups for q in group.questions if q.id not in done]:
            tasks = one_by_one(grouped(left)) if job.by_question else grouped(left)
            write_tasks([Task(_key(job, group), json.dumps(asdict(group))) for group in tasks], place.folder)
            with _cluster(stop):
                begun = time.perf_counter()
                stopped = _answered(blocks, job, place.folder, (workers, max_errors), stop)
                seconds = time.perf_counter() - begun
        tally = Tally(wanted).add_all(answers(place.folder))
        if tally.rows == len(wanted):
            stopped = ""  # what would have ended the run came with the last row
            place.finish(asked)
        elif not stopped:
            raise CheckpointError(
                f"{place.folder} lacks {len(wanted) - tally.rows} answers that Ray's checkpoint has noted as written: "
                "files were taken out of it; start again (--overwrite)"
            )
    tell(tally.rows, len(wanted))
    return tally.summary(fresh=tally.rows - before, seconds=seconds, stopped=stopped)


def _bound(job: Job, asked: Sequence[Question], folder: Path, retry: bool) -> set[str]:
    """The ids that are answered and are not to be asked again.

    Raises:
        ValueError: answers of another job, see `check_bound`; or see `take_back_errors`.
    """
    there = {row["id"]: row for row in answers(folder)}
    failed = {name for name, row in there.items() if row["error"] is not None}
    again = {question.id for question in asked} & failed if retry else set()
    wanted = {question.id: fingerprint(job, question) for question in asked if question.id not in again}
    check_bound(folder, {name: row.get("fingerprint") for name, row in there.items()}, failed, wanted)
    if again:
        take_back_errors(folder, {question.id for question in asked})
    return {row["id"] for row in answers(folder)}


def _answered(
    blocks: Any, job: Job, folder: Path, limits: tuple[int | None, int | None], stop: Callable[[], bool]
) -> str:
    """Return why the run ended before all were answered; it may have been asked to stop while Ray started."""
    if stop():
        return "interrupted"
    why: str = blocks.answer_tasks(_Making(job, folder), folder, _actors(blocks, *limits), stop)
    return why


def _listed(questions: str | Path | Sequence[Question], root: str | Path | None, urls: bool) -> list[Question]:
    if isinstance(questions, (str, Path)):
        return read_questions(questions, root=root, allow_urls=urls)
    return list(questions)


@dataclass(frozen=True)
class _Making:
    """Makes an actor's answerer; travels to it by pickle."""

    job: Job
    folder: Path

    def __call__(self) -> Callable[[str], Iterable[dict[str, Any]]]:
        from vtc.video.batch.answerer import Answerer

        answerer = Answerer(self.job)
        return lambda payload: _rows(answerer, _group(payload), self.folder / ATTEMPTS)


def _rows(answerer: Any, group: Group, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a task. Ray gives a task to a new actor where one died, which finds here what it died over."""
    folder.mkdir(exist_ok=True)
    name = hashlib.sha256(json.dumps(asdict(group)).encode()).hexdigest()
    attempts = Attempts(folder / f"{name}{ENDING}")
    try:
        if why := attempts.refused_medium(group.first):
            yield from (answerer.failed(question, why) for question in group.questions)
        else:
            yield from answerer.answer(group, attempts=attempts)
    finally:
        attempts.close([question.id for question in group.questions])


def _group(payload: str) -> Group:
    """The group that `asdict` and JSON made a payload of."""
    found = json.loads(payload)["questions"]
    return Group(tuple(Question(**{**row, "choices": tuple(row["choices"])}) for row in found))


def _key(job: Job, group: Group) -> str:
    """Another one wherever the answers could be others."""
    text = json.dumps([fingerprint(job, group.first), asdict(group)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _blocks() -> Any:
    try:
        from . import blocks as ray_blocks
    except ImportError as error:
        raise ImportError(f"engine='ray' needs Ray ({error}); pip install 'ray[data]'") from error
    return ray_blocks


@contextmanager
def _cluster(stop: Callable[[], bool]) -> Iterator[None]:
    """The cluster that is connected; else that of `ray job submit` or this machine, left again afterwards."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        _connect(stop)
        yield
    finally:
        ray.shutdown()


def _connect(stop: Callable[[], bool]) -> None:
    """`ray.init`, after which the caller's handler of SIGTERM can ask to stop: Ray puts one in its place.

    Where that made `stop` true meanwhile, Ray may not be there.
    """
    import ray

    from .job import DriverJob

    handler = signal.getsignal(signal.SIGTERM)
    # Where the caller has none, Ray's own is the better: it closes what was opened. It is set in the main thread alone.
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        ray.init(job_config=DriverJob())
        return
    asked = False
    try:
        ray.init(job_config=DriverJob())
    except SystemExit:
        asked = True
    finally:
        signal.signal(signal.SIGTERM, handler)
    if asked:
        signal.raise_signal(signal.SIGTERM)
        if not stop():  # the caller's handler is about something else
            ray.shutdown()
            _connect(stop)


def _actors(blocks: Any, workers: int | None, max_errors: int | None) -> Any:
    """As many as asked for, or as there are GPUs; a core for each where enough are left."""
    import ray

    there = ray.cluster_resources()
    cores, gpus = there.get("CPU", 0), int(there.get("GPU", 0))
    if cores < LEFT_TO_RAY:
        raise ValueError(f"the Ray cluster has {cores:g} CPU cores; it needs {LEFT_TO_RAY} at least to read and write")
    size = workers or max(gpus, 1)
    if gpus and size > gpus:
        raise ValueError(f"workers={size}, but the Ray cluster has {gpus} GPUs and each worker holds a model on one")
    return blocks.Actors(size, float(cores - LEFT_TO_RAY >= size), float(gpus > 0), max_errors)
