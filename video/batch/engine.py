"""The batch of this process: an engine answers, reading runs ahead of it, and each row is safe before the next."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from vtc.core.files import is_same_file
from vtc.recipes.named import RecipeSpec

from .attempts import ENDING, Attempts, EngineStopped
from .config import Job
from .engines import VLLM, check_installed
from .fingerprints import fingerprint
from .journal import Records, row_of, rows
from .parquet import (
    check_rows,
    check_table,
    journal_of,
    write_parquet,
)
from .questions import (
    SCHEMES,
    Group,
    Question,
    check_holdable,
    grouped,
    one_by_one,
    read_questions,
    slimmed,
)
from .summary import Summary, Tally

ProgressCallback = Callable[[int, int], None]
"""Called with how many of the questions are done, and how many there are."""


class BatchEngine(Protocol):
    """Interface of what answers a batch."""

    def answers(
        self,
        groups: Sequence[Group],
        done: Collection[str],
        attempts: Attempts,
        workers: int,
        stop: Callable[[], bool],
    ) -> Generator[dict[str, Any], None, None]:
        """One row for each question of `groups` that is not `done`, as soon as it is answered.

        What goes wrong with a medium or a question is a row with an `error`. Where `stop()` is true, nothing further
        is begun. Closing it drops what is in hand.

        Args:
            groups: each about one stretch of one medium.
            done: ids that have a row; each that is taken is among them before the next is asked for.
            attempts: records what is begun, and knows what killed an earlier process.
            workers: media that are read at once.
            stop: asked now and then.

        Raises:
            OSError, ValueError: the engine itself cannot go on.
            EngineStopped: it ended over what it had in hand.
        """

    def close(self) -> None:
        """Give back what the engine holds."""


def answer_batch(
    questions: str | Path | Sequence[Question],
    out: str | Path,
    *,
    recipe: RecipeSpec | None = None,
    job: Job | None = None,
    shard: tuple[int, int] | None = None,
    workers: int = 2,
    limit: int | None = None,
    max_errors: int | None = None,
    root: str | Path | None = None,
    allow_urls: bool = False,
    overwrite: bool = False,
    retry: bool = False,
    slim: bool = False,
    concurrency: int | None = None,
    request_timeout: float | None = None,
    progress: ProgressCallback | None = None,
    on_row: Callable[[Mapping[str, Any]], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    **fields: Any,
) -> Summary:
    """Answer questions about many media, and go on where an earlier run of the same job ended.

    Questions about one stretch of one medium share its reading, its encoding and, where the recipe does not read the
    question, what the language model makes of it. Each row is on the disk before the next is written. A medium that
    cannot be read gives rows with an `error`; those count as done unless `retry` is given.

    Args:
        questions: a file, see `read_questions`, or questions.
        out: a .jsonl file, or a .parquet file: that one is written when all are answered, from `OUT.jsonl` beside it,
            which rows are appended to, and which a later run needs to go on.
        recipe: as `vtc.reduce_tokens` takes it; None: `video` for videos, `kcenter` for images.
        job: in place of `recipe` and `fields`.
        shard: (i, n): the i-th of n parts, from 1; questions about one medium stay together.
        workers: how many media are read at once, ahead of the model; as many more wait for it.
        limit: questions at most.
        max_errors: ends the run when it has written more rows with an error than that.
        root, allow_urls: see `read_questions`.
        overwrite: throw away what `out` holds.
        retry: ask again where `out` holds an error; such rows are taken out of it first.
        slim: leave the question and the medium out of the rows.
        concurrency: requests at most that vLLM (None: 64) or the endpoint (None: 16) have in hand at once.
        request_timeout: seconds that the endpoint has for one answer; None: 600.
        progress: called with how far the run is.
        on_row: called with each row that this run wrote, once it is on the disk.
        stop: asked before each batch of questions; where it is true, the run ends, and can be gone on with.
        fields: of `Job`, such as `model`, `keep` and `frames`; `engine="vllm"` or `endpoint=URL` for another engine
            than a model in this process. An endpoint that has one model alone needs no `model`.

    Raises:
        ImportError: the engine is not installed.
        EngineStopped: the engine ended over what it had in hand; the same call goes on, with those one by one.
        OSError: questions that cannot be read, a model that cannot be had, `out` that cannot be written (a full disk:
            what was written stays, and can be gone on with).
        TypeError, ValueError: bad questions, a value out of range, or `out` holds answers of another job.
    """
    if job is not None and (fields or recipe is not None):
        given = [*(["recipe"] if recipe is not None else []), *fields]
        raise TypeError(f"job and {', '.join(given)} were both given; pass the job alone")
    check_installed(fields.get("engine") or (job.engine if job else ""))
    job = job or _job(recipe, fields)
    _check(workers=workers, limit=limit, max_errors=max_errors)
    check_in_flight(job, concurrency, request_timeout)
    groups = chosen_groups(questions, root=root, allow_urls=allow_urls, shard=shard, limit=limit, slim=slim)
    groups = one_by_one(groups) if job.by_question else groups
    wanted = {q.id: fingerprint(job, q) for group in groups for q in group.questions}
    out = Path(out)
    journal = journal_of(out)
    check_place(questions, out)
    if journal != out:
        check_table(out, journal, overwrite)
    with Records(journal, overwrite=overwrite) as records:
        again = records.failed & wanted.keys() if retry else set()
        records.check({name: digits for name, digits in wanted.items() if name not in again})
        records.forget(again)
        asked = [q for group in groups for q in group.questions]
        tally = Tally({q.id: q.medium for q in asked}).add_all(rows(journal))
        left = [group for group in groups if any(q.id not in records.done for q in group.questions)]
        if journal != out and (left or overwrite):
            check_rows([*rows(journal), *(row_of(q) for q in asked if q.id not in records.done)])
            Path(os.path.realpath(out)).unlink(missing_ok=True)  # it is not all any more
        if left:
            with _noted(journal, records, again, overwrite) as attempts:
                callbacks = progress or _no_progress, on_row or _no_row
                with closing(engine_of(job, concurrency, request_timeout)) as engine:
                    summary = _run(engine, left, records, attempts, tally, workers, max_errors, callbacks, stop)
        else:
            summary = tally.summary(fresh=0, seconds=0.0)
        if journal != out and not summary.stopped:
            write_parquet(list(rows(journal)), out)
    return summary


def _job(recipe: RecipeSpec | None, fields: dict[str, Any]) -> Job:
    """The job, whose model is the endpoint's only one where none is named."""
    job = Job.of(recipe, **{name: value for name, value in fields.items() if name != "model" or value is not None})
    if job.endpoint is None or fields.get("model") is not None:
        return job
    from .served.client import Client

    return replace(job, model=Client(job.endpoint).only_model())


def check_in_flight(job: Job, concurrency: int | None, request_timeout: float | None) -> None:
    """Refuse settings of requests where there are none.

    Raises:
        ValueError: naming the argument.
    """
    if concurrency is not None and (job.in_process or concurrency < 1):
        what = "is of --engine vllm and --endpoint; leave it out" if job.in_process else "expected at least 1"
        raise ValueError(f"concurrency={concurrency}: {what}")
    if request_timeout is not None and (job.endpoint is None or not 0 < request_timeout < float("inf")):
        what = "is of --endpoint; leave it out" if job.endpoint is None else "expected seconds above 0"
        raise ValueError(f"request_timeout={request_timeout}: {what}")


def engine_of(job: Job, concurrency: int | None = None, request_timeout: float | None = None) -> BatchEngine:
    """The engine of `job`, ready to answer.

    Args:
        job: says which.
        concurrency, request_timeout: see `answer_batch`.

    Raises:
        ImportError, OSError, ValueError: it cannot be had.
    """
    if job.endpoint is not None:
        from .served.endpoint import Endpoint
        from .served.in_flight import InFlight

        return InFlight(Endpoint(job, concurrency, request_timeout))
    if job.engine == VLLM:
        from .served.in_flight import InFlight
        from .served.vllm_engine import VLLMRequests

        return InFlight(VLLMRequests(job, concurrency))
    from .local import LocalEngine

    return LocalEngine(job)


def check_place(questions: str | Path | Sequence[Question], out: Path) -> None:
    """Refuse to write answers over what was asked.

    Raises:
        ValueError: `out` is the file of questions.
    """
    if isinstance(questions, (str, Path)) and is_same_file(questions, out):
        raise ValueError(f"out={out} is the file of questions; write to another")


def chosen_groups(
    questions: str | Path | Sequence[Question],
    *,
    root: str | Path | None = None,
    allow_urls: bool = False,
    shard: tuple[int, int] | None = None,
    limit: int | None = None,
    slim: bool = False,
) -> list[Group]:
    """The groups of a run: of `questions`, the shard's, and no more questions than `limit`; `slim` as in
    `answer_batch`.

    Raises:
        OSError, ValueError: see `read_questions`; a shard that is none.
    """
    listed = (
        read_questions(questions, root=root, allow_urls=allow_urls)
        if isinstance(questions, (str, Path))
        else list(questions)
    )
    if not isinstance(questions, (str, Path)):
        _check_listed(listed)
    groups = grouped(slimmed(listed) if slim else listed)
    if shard is not None:
        part, parts = shard
        if not 1 <= part <= parts:
            raise ValueError(f"shard={part}/{parts}; expected i/n with i from 1 to n, such as 1/4")
        media = list(dict.fromkeys(group.first.medium for group in groups))
        own = set(media[part - 1 :: parts])
        groups = [group for group in groups if group.first.medium in own]
    if limit is None:
        return groups
    return grouped([q for group in groups for q in group.questions][:limit])


def _check_listed(questions: Sequence[Question]) -> None:
    """Check questions as `read_questions` does those of a file."""
    if len({q.id for q in questions}) < len(questions):
        raise ValueError("questions: an id stands for more than one of them; give each its own")
    for question in questions:
        check_holdable(asdict(question), f"questions: {question.id!r}")


@contextmanager
def _noted(journal: Path, records: Records, again: Collection[str], overwrite: bool) -> Iterator[Attempts]:
    """The note of what is begun, beside the rows; it stays where the process is killed, and nowhere else."""
    path = journal.with_name(journal.name + ENDING)
    if overwrite:
        path.unlink(missing_ok=True)
    attempts = Attempts(path, records.done, forget=again)
    try:
        yield attempts
    except EngineStopped:
        attempts.leave()
        raise
    except BaseException:
        attempts.close(records.done)
        raise
    attempts.close(records.done)


def _check(workers: int, limit: int | None, max_errors: int | None) -> None:
    if workers < 1:
        raise ValueError(f"workers={workers}; expected at least 1")
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}; expected at least 1 question")
    if max_errors is not None and max_errors < 0:
        raise ValueError(f"max_errors={max_errors}; expected at least 0")


def _run(
    engine: BatchEngine,
    groups: Sequence[Group],
    records: Records,
    attempts: Attempts,
    tally: Tally,
    workers: int,
    max_errors: int | None,
    callbacks: tuple[ProgressCallback, Callable[[Mapping[str, Any]], None]],
    stop: Callable[[], bool],
) -> Summary:
    progress, on_row = callbacks
    begun, fresh, failed, stopped = time.perf_counter(), 0, 0, ""
    progress(tally.rows, len(tally.wanted))
    with closing(engine.answers(groups, records.done, attempts, workers, stop)) as made:
        for row in made:
            records.append(row)
            tally.add(row)
            on_row(row)
            fresh, failed = fresh + 1, failed + (row["error"] is not None)
            progress(tally.rows, len(tally.wanted))
            if max_errors is not None and failed > max_errors:
                stopped = "max_errors"
                break
    if tally.rows == len(tally.wanted):
        stopped = ""  # what would have ended the run came with the last row
    elif not stopped:
        stopped = "interrupted"
    return tally.summary(fresh=fresh, seconds=time.perf_counter() - begun, stopped=stopped)


def _no_progress(done: int, total: int) -> None:
    """Progress that nobody asked for."""


def _no_row(row: Mapping[str, Any]) -> None:
    """A row that nobody asked for."""


def missing_media(groups: Sequence[Group]) -> dict[str, int]:
    """Paths of media that are no files here, with the number of their questions; URLs are not looked at."""
    missing: dict[str, int] = {}
    for group in groups:
        medium = group.first.medium
        if medium in missing or not (medium.lower().startswith(SCHEMES) or os.path.exists(medium)):
            missing[medium] = missing.get(medium, 0) + len(group.questions)
    return missing
