"""The quality benchmark: plan, answer, compare, and write what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vtc.core.statistics import DRAWS

from .config import MOST, BenchConfig
from .journal import RowFile
from .results import document
from .tables import markdown
from .workers import WorkerFailure, work

NAME = "quality"


@dataclass(frozen=True)
class BenchOutcome:
    """Result of a run.

    Attributes:
        document: what is in the JSON file.
        files: what was written.
        errors: rows without an answer, and models that could not be loaded.
    """

    document: dict[str, Any]
    files: tuple[Path, ...]
    errors: int


def run(
    bench_config: BenchConfig,
    out: Path,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    curve: bool = True,
    seed: int = 0,
    draws: int = DRAWS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> BenchOutcome:
    """Answer what `bench_config` asks and is not yet answered in `out`, and write the JSON, the tables and the curve
    there.

    Args:
        jobs: processes.
        overwrite: forget what `out` holds of an earlier run.
        curve: draw it, as PNG and SVG, where matplotlib is installed.
        seed, draws: of the bootstrap.
        on_progress: called with how many answers there are, of how many.

    Raises:
        ValueError: bad input, another run's files in `out`, or no model that can be loaded.
        OSError: something cannot be read or written, or a process died; what was answered is kept.
    """
    for name, value, least, most in (("jobs", jobs, 1, MOST), ("draws", draws, 1, MOST), ("seed", seed, 0, 2**64)):
        if not least <= value <= most:
            raise ValueError(f"--{name} {value}; expected a whole number from {least} to {most:,}")
    config = bench_config.to_dict()
    _check_images(bench_config)
    failures: list[WorkerFailure] = []
    with RowFile(out, config, overwrite) as file:
        _fill(bench_config, file, jobs, failures, on_progress)
    if len(failures) == len(bench_config.models):
        raise ValueError(failures[0].why)
    made = document(bench_config, config, file.rows, {one.model: one.why for one in failures}, seed=seed, draws=draws)
    errors = len(failures) + len(made["errors"])
    return BenchOutcome(made, tuple(_write(made, out, curve and has_matplotlib())), errors)


def has_matplotlib() -> bool:
    """Return whether a curve can be drawn."""
    return find_spec("matplotlib") is not None


def _fill(
    bench_config: BenchConfig,
    file: RowFile,
    jobs: int,
    failures: list[WorkerFailure],
    on_progress: Callable[[int, int], None],
) -> None:
    wanted: dict[str, dict[str, set[str]]] = {
        model: {variant.key: {case.id for case in bench_config.cases(model)} for variant in bench_config.variants}
        for model in bench_config.models
    }
    total = sum(len(ids) for variants in wanted.values() for ids in variants.values())
    answered = 0

    def note(model: str, variant: str, id: str) -> None:
        nonlocal answered
        # A variant that the model refuses counts as done.
        answered += 1 if id else len(wanted[model][variant])

    for key in file.rows:
        note(*key)
    on_progress(answered, total)
    for message in work(bench_config, frozenset(file.rows), jobs):
        if isinstance(message, WorkerFailure):
            failures.append(message)
        elif message.key not in file.rows:  # each process says what the model refuses
            file.add(message)
            note(*message.key)
            on_progress(answered, total)


def _check_images(bench_config: BenchConfig) -> None:
    """Refuse data of which no image exists: then the paths are wrong, and not the images."""
    if bench_config.data is None:
        return
    scenes = [case.scene for case in bench_config.cases(bench_config.models[0])]
    if not any(Path(scene).exists() for scene in scenes):
        raise FileNotFoundError(
            f"--data {bench_config.data}: none of its images exists, such as {scenes[0]}; write paths relative "
            "to the file's folder"
        )


def _write(made: dict[str, Any], out: Path, curve: bool) -> list[Path]:
    text = out / f"{NAME}.json", out / f"{NAME}.md"
    text[0].write_text(json.dumps(made, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    text[1].write_text(markdown(made), encoding="utf-8")
    if not curve:
        return list(text)
    from .plot import draw

    return [*text, *draw(made, out / NAME)]
