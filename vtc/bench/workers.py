"""The answering itself: in this process, or shared out over several."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from .config import BenchConfig
from .evaluate import Evaluator
from .journal import BenchRow
from .subprocess_workers import gathered

Key = tuple[str, str, str]


@dataclass(frozen=True)
class WorkerFailure:
    """A model that cannot be loaded, and why."""

    model: str
    why: str


Task = tuple[str, int]
"""A model, and which of its batches."""


def work(bench_config: BenchConfig, done: Collection[Key], jobs: int = 1) -> Iterator[BenchRow | WorkerFailure]:
    """The rows that are not `done`, as they come.

    Args:
        jobs: processes; torch's threads are shared out among them.

    Raises:
        OSError: a process ended before its work was done.
    """
    tasks = [
        (model, i)
        for model in bench_config.models
        for i in range(len(bench_config.batches(model)))
        if _due(bench_config, model, i, done)
    ]
    jobs = min(jobs, len(tasks))
    return _together(bench_config, tasks, done, jobs) if jobs > 1 else _alone(bench_config, tasks, done)


def _due(bench_config: BenchConfig, model: str, batch: int, done: Collection[Key]) -> bool:
    open_variants = [variant.key for variant in bench_config.variants if (model, variant.key, "") not in done]
    return any(
        (model, variant, case.id) not in done
        for case in bench_config.batches(model)[batch]
        for variant in open_variants
    )


def _alone(
    bench_config: BenchConfig, tasks: Sequence[Task], done: Collection[Key]
) -> Iterator[BenchRow | WorkerFailure]:
    from vtc.check.capture import few_threads

    for name, group in groupby(tasks, key=lambda task: task[0]):
        try:
            model, processor = _load(bench_config, name)
        except (OSError, ValueError) as error:
            yield WorkerFailure(name, str(error))
            continue
        scorer = Evaluator(name, model, processor, bench_config.variants, bench_config.max_new_tokens)
        yield from (row for row in scorer.refused if row.key not in done)
        with few_threads(model):
            for _, batch in group:
                yield from scorer.rows(bench_config.batches(name)[batch], done)


def _load(bench_config: BenchConfig, name: str) -> tuple[Any, Any]:
    from safetensors import SafetensorError

    from vtc.inference.loading import load
    from vtc.inference.quiet import quiet

    try:
        with quiet():
            return load(name, device=bench_config.device, dtype=bench_config.dtype)
    except (
        SafetensorError,
        RuntimeError,
        EOFError,
    ) as error:  # so torch and safetensors say that a file is no file of theirs
        raise ValueError(f"--models {name}: its weights cannot be read ({error}); fetch or train them again") from error


def _together(
    bench_config: BenchConfig, tasks: Sequence[Task], done: Collection[Key], jobs: int
) -> Iterator[BenchRow | WorkerFailure]:
    parts = [partial(_alone, bench_config, tasks[i::jobs], done) for i in range(jobs)]
    ended = yield from _once(gathered(parts, max(1, _threads() // jobs)))
    if any(ended):
        codes = ", ".join(str(code) for code in ended if code)
        raise ChildProcessError(
            f"--jobs {jobs}: a process ended with code {codes} before its work was done (-9 is often a lack of "
            "memory); what was answered is kept: run the same command again, perhaps with fewer jobs"
        )


def _once(
    messages: Generator[BenchRow | WorkerFailure, None, list[int]],
) -> Generator[BenchRow | WorkerFailure, None, list[int]]:
    """`messages`, each failure of a model once however many processes meet it."""
    failed: set[str] = set()
    try:
        while True:
            try:
                message = next(messages)
            except StopIteration as end:
                codes: list[int] = end.value
                return codes
            if not isinstance(message, WorkerFailure):
                yield message
            elif message.model not in failed:
                failed.add(message.model)
                yield message
    finally:
        messages.close()


def _threads() -> int:
    import torch

    return torch.get_num_threads()
