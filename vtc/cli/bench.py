"""`vtc bench`: what is heavy is imported inside the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .console import note, print_json, progress, shown
from .options import AsJson, Device, Dtype, Overwrite, old, parts
from .serve_load import serve
from .speed import speed

if TYPE_CHECKING:
    from vtc.bench.config import BenchConfig
    from vtc.bench.quality import BenchOutcome

app = typer.Typer(name="bench", help="Measure recipes on a model.", no_args_is_help=True)
EASY_VQA = "easy-vqa"
"""The name of a public benchmark for `--data`; `./easy-vqa` is a file of that name."""
SOME_FAILED = 3
"""Exit code of a run whose tables are written while some rows or models have no answer."""
BELOW_RANDOM = 4
"""Exit code of a complete run in which a recipe is below `random` on an embedded model, and no reason is known."""


app.command()(speed)
app.command()(serve)


@app.callback()
def bench() -> None:
    """Measure recipes on a model."""


@app.command()
def quality(
    out: Annotated[
        Path, typer.Option(help="The directory for rows, JSON, Markdown and curves; a killed run goes on from it.")
    ],
    models: Annotated[
        str, typer.Option(help="Embedded names, directories or hub ids, parted by commas.")
    ] = "tiny-llava",
    recipes: Annotated[
        str | None,
        typer.Option(
            help="Names from `vtc recipes` or recipe files, parted by commas; `none` asks without the image. "
            "Default: all of them."
        ),
    ] = None,
    keep: Annotated[
        str, typer.Option(help="Shares (at most 1) or counts (2 and more) of visual tokens, parted by commas.")
    ] = "1,.5,.25,.1,.05",
    n: Annotated[int | None, typer.Option(help="Questions. Default: 500, or all of --data.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="easy-vqa|FILE",
            help="easy-vqa (the public test split, fetched once), or a JSONL file of your own: image (a path relative "
            "to the file), question, and perhaps answer, skill and id. Without an answer only agreement with the full "
            "model is measured.",
        ),
    ] = None,
    skills: Annotated[str | None, typer.Option(help="Ask only for these skills, parted by commas.")] = None,
    first: Annotated[int | None, typer.Option(metavar="SEED", help="The seed of the first drawn scene.")] = None,
    per_scene: Annotated[int | None, typer.Option(help="At most so many questions a drawn scene. Default: 4.")] = None,
    shifted: Annotated[
        bool, typer.Option("--shifted", help="Draw grounds, fonts and sizes that no training showed.")
    ] = False,
    videos: Annotated[bool, typer.Option("--videos", help="Draw videos in place of images.")] = False,
    positions: Annotated[
        str | None,
        typer.Option(metavar="original|compact", help="Coordinates of kept tokens. Default: each recipe's own."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of recipes that draw and of the bootstrap. Default: each recipe's own, and 0.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws.")] = 2000,
    batch: Annotated[
        int | None,
        typer.Option(help="Questions answered together. Default: 64 on tiny models, 16 on small-llava, 8 on others."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 32,
    jobs: Annotated[int, typer.Option(help="Processes; each loads the model.")] = 1,
    overwrite: Overwrite = False,
    fresh: Annotated[bool, old("--fresh")] = False,
    curve: Annotated[bool, typer.Option(help="Draw the curve, where matplotlib is installed.")] = True,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Compare recipes by the answers that survive them, on the same questions, with paired intervals.

    Exits with 3 if the tables are written but a question or a model could not be answered; run again to retry those.
    Exits with 4 if a named recipe is below `random` by its interval on an embedded model, and no reason is known.
    """
    from vtc.bench.config import BenchConfig
    from vtc.bench.quality import has_matplotlib, run
    from vtc.bench.variants import chosen, parse_keeps

    found, text_alone = chosen([] if recipes is None else parts(recipes, "--recipes"), positions, seed, videos)
    bench_config = BenchConfig(
        models=tuple(parts(models, "--models")),
        recipes=tuple(found),
        keeps=parse_keeps(keep),
        text_alone=text_alone,
        n=n,
        first=first,
        per_scene=per_scene,
        skills=() if skills is None else tuple(parts(skills, "--skills")),
        shifted=shifted,
        videos=videos,
        data=_data(data),
        device=device,
        dtype=dtype,
        batch=batch,
        max_new_tokens=max_new_tokens,
    )
    _note_questions(bench_config)
    if curve and not has_matplotlib():
        note("no curve will be drawn: matplotlib is not installed (pip install matplotlib)")
    with _bar() as say:
        outcome = run(
            bench_config,
            out,
            jobs=jobs,
            overwrite=overwrite or fresh,
            curve=curve,
            seed=seed or 0,
            draws=draws,
            on_progress=say,
        )
    if as_json:
        print_json(outcome.document)
    else:
        _print(outcome)
    _exit(outcome)


def _data(name: str | None) -> Path | None:
    """The file of questions; `easy-vqa` is fetched."""
    if name != EASY_VQA:
        return None if name is None else Path(name)
    from vtc.bench.easy_vqa import fetch

    with progress() as say:
        return fetch(say)


def _exit(outcome: BenchOutcome) -> None:
    """End with what the exit code says of `outcome`; return where it is 0."""
    from vtc.bench.explained import unexplained

    if outcome.errors:
        note(f"{outcome.errors} questions or models have no answer; see the errors in {outcome.files[1]}")
        raise typer.Exit(SOME_FAILED)
    if found_below := unexplained(outcome.document):
        note(f"below `random`, and not explained in vtc/bench/explained.py: {'; '.join(found_below)}")
        raise typer.Exit(BELOW_RANDOM)


def _note_questions(bench_config: BenchConfig) -> None:
    """Say which fields of the questions are not read, and where a model knows the words of a part of them."""
    from vtc.bench.cases import FIELDS, read

    unread = read(bench_config.data)[1] if bench_config.data is not None else []
    if unread:
        note(
            f"--data {bench_config.data}: fields that are not read: {', '.join(unread)} (read are {', '.join(FIELDS)})"
        )
    for model in bench_config.models:
        if known := bench_config.words(model):
            note(f"{model} can be asked {known[0]:,} of {known[1]:,} questions: those in words that it knows")


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("answers", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _print(outcome: BenchOutcome) -> None:
    from vtc.bench.tables import TITLES, inside, matrix

    console = Console()
    for model in outcome.document["models"]:
        if model["failed"]:
            console.print(shown(f"{model['name']}: {model['failed']}"), highlight=False)
            continue
        title = f"{shown(model['name'])}, {TITLES[model['metric']]} (%)"
        for (head, rows), name in ((matrix(model), title), (inside(model), "inside the language model")):
            table = Table(*head, title=name)
            for row in rows:
                table.add_row(*map(shown, row))
            if rows:
                console.print(table)
    console.print(shown(f"written: {', '.join(map(str, outcome.files))}"), highlight=False, soft_wrap=True)
