"""The `vtc` command. What is heavy is imported inside the commands, so that `vtc --help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vtc import __version__
from vtc.inference.quiet import quiet

from .bench import app as bench
from .console import (
    PlainErrors,
    note,
    print_demo_answers,
    print_demo_savings,
    print_json,
)
from .merge import merge
from .models import app as models
from .options import (
    MODELS,
    VIDEOS,
    AnyModel,
    AnyRecipe,
    AsJson,
    BatchModel,
    CheckEngine,
    Concurrency,
    Device,
    Dtype,
    End,
    Endpoint,
    Engine,
    EngineArgs,
    Features,
    Fps,
    Frames,
    KeepText,
    Keyframes,
    Look,
    Media,
    Model,
    Offline,
    Overwrite,
    Positions,
    Reader,
    RequestTimeout,
    Scorer,
    SegmenterText,
    Slack,
    Start,
    Track,
    VideoAs,
    keep_number,
    old,
)
from .serve import serve

app = typer.Typer(
    cls=PlainErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vtc {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Vision-language models that answer from a fraction of their visual tokens."""


@app.command()
def ask(
    media: Media,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="A question about it.", show_default=False)],
    model: AnyModel = None,
    recipe: AnyRecipe = None,
    keep: KeepText = None,
    positions: Positions = None,
    fps: Fps = None,
    frames: Frames = None,
    start: Start = None,
    end: End = None,
    look: Look = None,
    slack: Slack = None,
    track: Track = None,
    reader: Reader = None,
    keyframes: Keyframes = None,
    scorer: Scorer = None,
    segmenter: SegmenterText = None,
    features: Features = None,
    plan: Annotated[
        str | None,
        typer.Option(
            help="Ask in several calls, each printed as it is done: decompose or segment-thought. Of these the answer "
            "with fewer tokens alone is given.",
            rich_help_panel=VIDEOS,
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
    device: Device = "auto",
    dtype: Dtype = "auto",
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Answer a question about an image or a video, with all visual tokens and with fewer, side by side.

    Where frames are chosen by the question or by the model's own tower, the answer with fewer tokens alone is given.
    """
    given = {**locals(), "keep": keep_number(keep)}
    from .ask_show import Options, ask_by_strategy
    from .ask_show import ask as answer

    options = Options.among(given)
    if plan is None:
        answer(media, question, options, max_new_tokens, as_json)
    else:
        ask_by_strategy(media, question, options, plan, max_new_tokens, as_json)


@app.command()
def show(
    media: Media,
    out: Annotated[Path, typer.Option(help="The image to write.", show_default=False)],
    question: Annotated[
        str | None, typer.Option(help="What is asked; it matters to recipes that read the question.")
    ] = None,
    model: AnyModel = None,
    recipe: AnyRecipe = None,
    keep: KeepText = None,
    positions: Positions = None,
    fps: Fps = None,
    frames: Frames = None,
    start: Start = None,
    end: End = None,
    look: Look = None,
    slack: Slack = None,
    track: Track = None,
    reader: Reader = None,
    keyframes: Keyframes = None,
    scorer: Scorer = None,
    segmenter: SegmenterText = None,
    features: Features = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    offline: Offline = False,
) -> None:
    """Draw which visual tokens are kept: over an image, or along the time of a video with its clips and budgets."""
    given = {**locals(), "keep": keep_number(keep)}
    from .ask_show import Options
    from .ask_show import show as draw

    options = Options.among(given)
    draw(media, out, question, options)


@app.command()
def probe(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Video files.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
    track: Track = None,
    reader: Reader = None,
) -> None:
    """Say what videos are, by their packets: size, times, rate, keyframes, tracks, and whether they are cut short.

    With --reader also whether that one reads them.

    Exits with 1 if one cannot be read; the others are printed all the same.
    """
    from .probe import describe

    if not describe(videos, as_json=as_json, track=track, reader=reader or "pyav"):
        raise typer.Exit(1)


@app.command()
def recipes(
    every: Annotated[bool, typer.Option("--all", help="List all of them, with papers, signals and stages.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which recipe to take for what; with --all list every one, and the plans by which a video can be asked."""
    from .recipes import essential_table, facts, recipes_table, strategies_table

    if as_json:
        print_json(facts(every))
        return
    console = Console()
    if not every:
        console.print(essential_table())
        return
    console.print(recipes_table())
    console.print(strategies_table())


@app.command()
def check(
    model: Model = "tiny-llava",
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="A name or a recipe file; repeatable. Default: a spread of those that the model can run."),
    ] = None,
    keep: KeepText = None,
    positions: Annotated[
        str, typer.Option(metavar="original|compact|both", help="Coordinates of kept tokens.")
    ] = "both",
    max_new_tokens: Annotated[int, typer.Option(min=1, max=1024, help="Tokens generated in each run.")] = 8,
    device: Device = "auto",
    dtype: Dtype = "auto",
    engine: CheckEngine = "transformers",
    engine_args: EngineArgs = None,
    as_json: AsJson = False,
) -> None:
    """Run the invariants of vtc's own tests on your checkpoint, and print which hold.

    Exits with 1 if one does not. In float32 differences are judged strictly, in half precision beside those that the
    stock model shows by itself.
    """
    given = {**locals(), "keep": keep_number(keep)}
    from .check import check_engine, check_invariants

    if engine == "transformers":
        check_invariants(**given)
    else:
        check_engine(**given)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The directory for the overlays and table.md.")] = Path("vtc-demo"),
    offline: Offline = False,
) -> None:
    """Run small-llava, or tiny-llava where that is not here, over the packaged images."""
    from vtc.inference.defaults import image_model

    model = image_model(offline=offline, say=note)
    with quiet():
        from .demo import run

        outcome = run(out, model=model, on_answers=print_demo_answers)
    print_demo_savings(outcome, str(out))


@app.command("batch")
def answer_batch(
    questions: Annotated[
        Path,
        typer.Argument(
            metavar="QUESTIONS",
            help="JSONL, CSV or Parquet: id, video (or image), question, choices?, start?, end?, answer?, system?",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The answers, which a run goes on with: .jsonl, .parquet (or a folder, with Ray).", show_default=False
        ),
    ],
    model: BatchModel = None,
    recipe: AnyRecipe = None,
    keep: KeepText = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a video at most.")] = 64,
    fps: Annotated[float, typer.Option(help="Frames a second to take.")] = 2.0,
    keyframes: Keyframes = None,
    scorer: Scorer = None,
    segmenter: SegmenterText = None,
    features: Features = None,
    engine: Engine = "local",
    endpoint: Endpoint = None,
    engine_args: EngineArgs = None,
    concurrency: Concurrency = None,
    request_timeout: RequestTimeout = None,
    video_as: VideoAs = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="The I-th of N parts; a medium's questions stay together.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Media read at once, ahead of the model (2); with Ray: actors, one model each (one a GPU)."
        ),
    ] = None,
    workers: Annotated[int | None, old("--workers")] = None,
    track: Track = None,
    reader: Reader = None,
    timeout: Annotated[float, typer.Option(help="Seconds without a sign of life until a medium is given up.")] = 60.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions at most.")] = None,
    max_errors: Annotated[int | None, typer.Option(min=0, help="End when more rows than that are errors.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder that all media must lie in.")] = None,
    allow_urls: Annotated[bool, typer.Option("--allow-urls", help="Fetch media that are URLs.")] = False,
    overwrite: Overwrite = False,
    former_overwrite: Annotated[bool, old("--anew")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Ask again where --out holds an error.")] = False,
    slim: Annotated[bool, typer.Option("--slim", help="Leave the question and the medium out of the answers.")] = False,
    check_only: Annotated[
        bool,
        typer.Option("--check", help="Read the questions, look whether their media are there, and answer nothing."),
    ] = False,
    allow_fewer_frames: Annotated[
        bool, typer.Option("--allow-fewer-frames", help="Where memory does not suffice, read again with half of them.")
    ] = False,
    choices: Annotated[
        str, typer.Option(metavar="listed|hidden", help="Put choices under the question, or keep them from the model.")
    ] = "listed",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="Questions at most that are decoded together.")] = 16,
    max_prompt: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="TOKENS",
            help="A longer prompt, visual tokens included, is an error of its row. Default: what the model takes.",
        ),
    ] = None,
    plan: Annotated[
        str, typer.Option(help="Ask about videos in several calls: decompose or segment-thought. Rows tell the calls.")
    ] = "direct",
    seed: Annotated[int, typer.Option(help="Of seeded stages.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Answer many questions about many videos or images; cut off, the same command goes on.

    Exits with 0 when all are answered, 1 when some rows are errors, 2 when refused, 130 when interrupted.
    """
    given = {name: value for name, value in locals().items() if name not in ("questions", "out", "engine", "shard")}
    from .batch import batch as run

    given["workers"] = given.pop("jobs") or given["workers"]
    given["overwrite"] = given.pop("former_overwrite") or given["overwrite"]
    backend, strategy = given.pop("reader") or "pyav", given.pop("plan")
    run(questions, out, engine, shard, {**given, "keep": keep_number(keep), "backend": backend, "strategy": strategy})


@app.command()
def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="ANSWERS|BENCH",
            help="What `vtc batch` answered (JSONL or Parquet), or the folder of `vtc bench quality`.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page to write, which ends in .html.", show_default=False)],
    examples: Annotated[
        int, typer.Option(min=0, help="Examples at most, the worst first; of a benchmark, for each model.")
    ] = 24,
    questions: Annotated[
        Path | None, typer.Option(help="Of answers: the questions, where the answers name no question or medium.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Of answers: the model that is asked again to draw what was kept.")
    ] = None,
    overlays: Annotated[bool, typer.Option(help="Draw what was kept; without it no model is loaded.")] = True,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
) -> None:
    """Write one HTML file about answers or a benchmark: curve, tables, and examples with overlays, the worst first."""
    from .report import report as write

    write(source, out, examples, questions, model, overlays, title)


@app.command("app")
def serve_app(
    model: Annotated[
        str | None,
        typer.Option(help=f"{MODELS} Default: small-llava for images and tiny-qwen for videos.", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to bind to; by default only this machine reaches it.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Default: the first free one from 7860 on; 0: any.", show_default=False),
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Open a tunnel of Gradio's: whoever knows its address reaches the page.")
    ] = False,
    auth: Annotated[
        str | None, typer.Option(metavar="USER:PASSWORD", help="What visitors must give.", show_default=False)
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    offline: Offline = False,
) -> None:
    """Open a page on which images and videos are asked about, with all visual tokens and with fewer, side by side."""
    from .app import run

    run(model, host, port, device=device, dtype=dtype, offline=offline, share=share, auth=auth)


app.command()(merge)
app.command()(serve)
app.add_typer(bench)
app.add_typer(models)


def main() -> None:
    """The entry point of the `vtc` command."""
    app()
