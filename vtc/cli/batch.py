"""`vtc batch`: options to arguments, signals to a request to stop, a summary to an exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from vtc.inference.quiet import quiet

from .batch_progress import batch_progress
from .console import (
    EXPECTED,
    debugging,
    note,
    say_error,
    shown,
    words_of,
)
from .engine_options import json_object

ENGINES = ("local", "vllm", "ray")
REQUESTS = ("endpoint", "engine_args", "concurrency", "request_timeout", "video_as")
"""Options that only engines take which are asked request by request."""
REFUSED = 2
SHOWN = 3
"""Missing media that are named."""


def batch(questions: Path, out: Path, engine: str, shard: str | None, options: dict[str, Any]) -> None:
    """Answer `questions` into `out` and print a summary.

    Args:
        options: of `vtc.video.answer_batch`, by name.

    Raises:
        typer.Exit: 1: some rows are errors or missing; 2: refused before anything was answered, or the disk is full;
            130: interrupted.
    """
    from vtc.video.batch.attempts import EngineStopped
    from vtc.video.batch.engines import check_installed
    from vtc.video.batch.ray.folder import CheckpointError
    from vtc.video.reading.backends import check_backend

    try:
        check_backend(options["backend"])
        if engine not in ENGINES:
            raise ValueError(f"engine={engine!r}; expected one of {', '.join(ENGINES)}")
        check_installed(engine)
        answer = _engine(engine)
        options["recipe"] = _recipe(options)
        _of_requests(engine, options)
        if options["workers"] is None:  # each engine has its own number
            del options["workers"]
        if shard is not None:
            options["shard"] = parsed_shard(shard)
        missing = _missing(questions, options)
        if options.pop("check_only"):
            raise typer.Exit(int(missing))
        with quiet(), batch_progress() as state, asked_to_stop() as stop:
            if engine != "ray":
                options["on_row"] = state.note
            summary = answer(questions, out, stop=stop, progress=state.tell, **options)
    except (*EXPECTED, MemoryError, CheckpointError, EngineStopped) as error:
        if debugging():
            raise
        say_error(words_of(error))
        raise typer.Exit(REFUSED) from None
    Console().print(shown(str(summary)), highlight=False)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def _of_requests(engine: str, options: dict[str, Any]) -> None:
    """Check the options of engines that are asked request by request, and take those out that are not given.

    Raises:
        ValueError: naming an option that the engine does not take.
    """
    for name in (*REQUESTS, "model"):
        if options[name] is None:
            del options[name]
    given = [f"--{name.replace('_', '-')}" for name in REQUESTS if name in options]
    if given and engine == "ray":
        raise ValueError(f"{given[0]} goes with --engine vllm or with an endpoint alone, not with --engine ray")
    if "engine_args" in options:
        options["engine_args"] = json_object("engine_args", options["engine_args"])
    if engine == "vllm":
        options["engine"] = engine
    if options["check_only"]:  # nothing is asked; what is wrong with the settings is said all the same
        _job(options)


def _job(options: dict[str, Any]) -> None:
    """Check what a job is made of.

    Raises:
        TypeError, ValueError: see `Job`.
    """
    from dataclasses import fields

    from vtc.video.batch.config import Job

    known = {field.name for field in fields(Job)} - {"recipe"}
    Job.of(options["recipe"], **{name: value for name, value in options.items() if name in known})


def _missing(questions: Path, options: dict[str, Any]) -> bool:
    """Return whether media are missing, and say which: their rows will be errors."""
    from vtc.video.batch.engine import chosen_groups, missing_media

    names = ("root", "allow_urls", "shard", "limit")
    groups = chosen_groups(questions, **{name: options[name] for name in names if name in options})
    asked, media = sum(len(group.questions) for group in groups), {group.first.medium for group in groups}
    missing = missing_media(groups)
    if options["check_only"]:
        there = "all of the media are there" if not missing else f"{len(missing)} of the media are missing"
        Console().print(f"{asked} questions about {len(media)} media: {there}", highlight=False)
    if missing:
        first = ", ".join(list(missing)[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        note(f"{len(missing)} of {len(media)} media are missing, {sum(missing.values())} of {asked} questions: {first}")
    return bool(missing)


def _recipe(options: dict[str, Any]) -> Any:
    """The recipe with the changes that are given, which are taken out of `options`."""
    from vtc.recipes.named import recipe as named
    from vtc.recipes.overrides import changed
    from vtc.recipes.video import DEFAULT

    changes = {name: options.pop(name) for name in ("keyframes", "scorer", "segmenter", "features")}
    if all(value is None for value in changes.values()):
        return options["recipe"]
    return changed(named(options["recipe"] or DEFAULT), **changes)


def _engine(name: str) -> Callable[..., Any]:
    if name == "ray":
        from vtc.video.batch.ray.engine import answer_batch_on_ray

        return answer_batch_on_ray
    from vtc.video import answer_batch

    return answer_batch


def parsed_shard(text: str) -> tuple[int, int]:
    """`i/n` as numbers.

    Raises:
        ValueError: it is none.
    """
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal()):
        raise ValueError(f"shard={text!r}; expected i/n with i from 1 to n, such as 1/4")
    return int(part), int(parts)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came within the block: once asks, twice interrupts. Handlers are put back."""
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        """Note the first signal; a second one interrupts."""
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
