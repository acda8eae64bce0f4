"""The `vtc` command. What is heavy is imported inside the commands, so that `vtc --help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import __version__
from .bench.command import app as bench
from .console import (
    PlainErrors,
    note,
    note_view,
    notes,
    print_check,
    print_comparison,
    print_outcome,
    progress,
    quiet,
)

if TYPE_CHECKING:
    from .budget import Keep
    from .recipes import Recipe

app = typer.Typer(
    cls=PlainErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Media = Annotated[Path, typer.Argument(metavar="MEDIA", help="A picture.", show_default=False)]
Model = Annotated[
    str, typer.Option(help="tiny-llava, tiny-internvl or tiny-qwen (embedded, work offline), a directory, or a hub id.")
]
RecipeName = Annotated[str, typer.Option("--recipe", help="A name from `vtc recipes`, or a recipe file (.json).")]
KeepText = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER",
        help="At most 1: the share of the visual tokens to keep (1 is all of them). A whole number of 2 or more: at "
        "most that many. Default: the recipe's own, 0.25 for the named ones.",
    ),
]
Positions = Annotated[
    str | None,
    typer.Option(metavar="original|compact", help="Coordinates of kept tokens. Default: the recipe's own."),
]
Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, ...")]
Dtype = Annotated[str, typer.Option(help="auto (the checkpoint's own), float32, bfloat16 or float16.")]


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
    model: Model = "tiny-llava",
    recipe: RecipeName = "kcenter",
    keep: KeepText = None,
    positions: Positions = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Answer a question about a picture, with all visual tokens and with fewer, side by side."""
    from .media import load_picture

    number = _keep(keep)
    with notes():
        picture = load_picture(media)
    chosen = _recipe(recipe, number, positions)
    from .ask import compare, unknown_words
    from .loading import load

    with quiet():
        network, processor = load(model, device=device, dtype=dtype)
        note_view(picture.size, processor)
        _note_unknown(unknown_words(processor, question), model)
        result = compare(network, processor, picture, question, chosen, max_new_tokens=max_new_tokens)
    Console().print(escape(f"{media.name}, {model} on {network.device.type}"), highlight=False)
    print_comparison(result, chosen)


@app.command()
def show(
    media: Media,
    out: Annotated[Path, typer.Option(help="The picture to write.", show_default=False)],
    question: Annotated[
        str, typer.Option(help="What is asked; it matters to recipes that read the question.")
    ] = "what is in the picture?",
    model: Model = "tiny-llava",
    recipe: RecipeName = "kcenter",
    keep: KeepText = None,
    positions: Positions = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Draw over a picture which of its visual tokens are kept."""
    from .media import load_picture

    number = _keep(keep)
    _check_out(out)
    with notes():
        picture = load_picture(media)
    chosen = _recipe(recipe, number, positions)
    from .ask import prompt, report_on
    from .loading import load
    from .viz import draw

    with quiet():
        network, processor = load(model, device=device, dtype=dtype)
        note_view(picture.size, processor)
        report = report_on(network, prompt(network, processor, picture, question), chosen)
    draw(picture, processor.image_processor, report, chosen).save(out)
    Console().print(escape(f"{report}\ndrawn to {out}"), highlight=False)


@app.command()
def recipes() -> None:
    """List the named recipes."""
    from .recipes import named_recipes

    table = Table("recipe", "paper", "looks at", "count", "stages")
    table.columns[0].no_wrap = True
    for named in named_recipes():
        papers = ", ".join(dict.fromkeys(stage.paper for stage in named.stages if stage.paper)) or "-"
        signals = ", ".join(dict.fromkeys(stage.signal for stage in named.stages if stage.signal)) or "-"
        count = "adaptive" if any(stage.adaptive for stage in named.stages) else "exact"
        table.add_row(named.name, papers, signals, count, ", ".join(named.labels))
    Console().print(table)


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
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens generated in each run.")] = 8,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Run the invariants of vtc's own tests on your checkpoint, and print which hold.

    Exits with 1 if one does not. In float32 differences are judged strictly, in half precision beside those that the
    stock model shows by itself.
    """
    from .check import recipes as named

    chosen = named(recipe, _keep(keep), positions)
    from .cases import makers
    from .check import check as look
    from .check import possible, require, runnable
    from .loading import load
    from .runs import few_threads
    from .trials import Bench

    with quiet(), progress() as say:
        say("loading")
        network, processor = load(model, device=device, dtype=dtype)
        for one in chosen if recipe else ():
            require(network, one)
        able, left = runnable(network, chosen)
        with few_threads(network):
            cases, missing = possible(network, makers(network, processor))
            result = look(Bench(network, cases, able, max_new_tokens), (*left, *missing), say)
    print_check(result, model)
    if not result.holds:
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The directory for the overlays and table.md.")] = Path("vtc-demo"),
) -> None:
    """Run the embedded model over the packaged pictures: offline, in seconds."""
    with quiet():
        from .demo import run

        outcome = run(out)
    print_outcome(outcome, str(out))


app.add_typer(bench)


def _keep(text: str | None) -> Keep | None:
    """`--keep`: a whole number of 2 or more is a count, all else a share."""
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        accepted = "a share such as 0.25, or a count such as 64"
        raise typer.BadParameter(f"--keep {text!r} is no number; pass {accepted}") from None
    return int(number) if number >= 2 and number.is_integer() else number


def _recipe(name: str, keep: Keep | None, positions: str | None) -> Recipe:
    from .recipes import recipe as named

    return named(name, keep=keep, positions=positions)


def _check_out(out: Path) -> None:
    """Refuses an output file that could not be written, before any model is loaded."""
    from PIL import Image

    if out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--out {out}: no picture format has the ending {out.suffix!r}; use .png")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: the directory {out.parent} does not exist; make it first")


def _note_unknown(words: list[str], model: str) -> None:
    if words:
        listed = ", ".join(map(repr, words))
        note(f"{model} has no {listed} among its words and reads an unknown word there; the answers may be off")


def main() -> None:
    """The entry point of the `vtc` command."""
    app()


if __name__ == "__main__":
    main()
