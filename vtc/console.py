"""How the `vtc` command speaks: plain errors, notes, tables."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

if TYPE_CHECKING:
    from vtc.video.reader import Info, ReadReport

    from .ask import Comparison
    from .check import Result
    from .demo import Outcome
    from .recipes import Recipe


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def shown(text: object) -> str:
    """Words of a file, a model or a person, as they may be printed.

    What looks like markup is text, and control characters, by which a file's name could drive the terminal (CWE-150),
    become U+FFFD.
    """
    return escape(_CONTROLS.sub("\ufffd", str(text)))


class PlainErrors(TyperGroup):
    """Commands whose expected errors are one line on stderr, unless `--debug` is given, before or after the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Moves `--debug` to the front, where it is known."""
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(a for a in args[:end] if a != "--debug"), *args[end:]]
        return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; ValueError, TypeError and OSError end it with exit code 1."""
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            say_error(str(error) or type(error).__name__)
            raise typer.Exit(1) from None


def _say(mark: str, text: str) -> None:
    Console(stderr=True).print(f"{mark} {shown(text)}", highlight=False, soft_wrap=True)


def say_error(text: str) -> None:
    """Prints an error on stderr, on one line."""
    _say("[red]error:[/red]", " ".join(text.split()))


def note(text: str) -> None:
    """Prints a note on stderr."""
    _say("[yellow]note:[/yellow]", text)


@contextmanager
def notes() -> Iterator[None]:
    """Prints the warnings of the block as notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        note(str(warning.message))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and advice out of the output of the block."""
    logging: Any = import_module("transformers.utils.logging")
    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()


def note_view(size: tuple[int, int], processor: Any) -> None:
    """Says so where the processor shows the encoder a part of the picture only, or a squeezed one."""
    from .view import coverage

    try:
        seen = coverage(size, processor.image_processor)
    except ValueError:  # a processor whose steps are not known: nothing can be said about it
        return
    if seen.share < 0.995:
        note(f"the model's processor crops the picture to its middle: the encoder sees {_percent(seen.share)} of it")
    if seen.squeezed >= 2:
        shape = f"{size[0]} x {size[1]}"
        note(f"the model's processor squeezes the {shape} picture {seen.squeezed:.1f}-fold along its long side")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def print_comparison(result: Comparison, recipe: Recipe) -> None:
    """Prints two answers and what they cost, side by side."""
    report, console = result.report, Console()
    table = Table("", "all tokens", f"{recipe.name}, keep {recipe.keep}")
    table.add_row("answer", shown(result.full), shown(result.short))
    table.add_row("visual tokens", str(report.before), str(report.after))
    if report.decoder is not None and report.decoder.kept:
        table.add_row("visual tokens per layer", str(report.before), f"{report.decoder.mean:.1f}")
    table.add_row("prompt tokens", *(str(sum(count)) for count in (report.prompt_before, report.prompt_after)))
    if result.seconds_full is not None and result.seconds_short is not None:
        for name, *times in zip(
            ("time to first token", "time to each later token"), result.seconds_full, result.seconds_short, strict=True
        ):
            table.add_row(name, *(f"{seconds * 1e3:.1f} ms" for seconds in times))
    console.print(table)
    saved = f"{report.bytes_saved / 2**20:.2f} MiB of KV cache"
    flops = 1 - report.flops_after / max(1, report.prefill_flops_before)
    _line(console, f"saved: {saved}, {flops:.0%} of the language model's prefill FLOPs (by arithmetic)")
    if report.seconds:
        spent = ", ".join(f"{phase} {seconds * 1e3:.1f} ms" for phase, seconds in report.seconds.items())
        _line(console, f"spent on the way to the reduced prompt: {spent}")
    _line(
        console,
        f"time to first token: from the call of generate, encoder and selection included; median of {result.rounds} "
        "runs each, in turns, after one warm-up. A later token at batch 1 hardly gets cheaper: it reads weights",
    )


def print_reading(report: ReadReport, info: Info) -> None:
    """Prints how a video was read."""
    lost = f"{len(report.lost)} lost" if report.lost else "none lost"
    of = f"{report.delivered} of {info.frames} frames of {info.duration:.4g} s of video"
    _line(Console(), f"read: {of}, {lost}, {report.seconds:.2f} s of reading (not in the times above)")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Shows, on a terminal only, what the block says it is doing."""
    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(shown(text))


def print_check(result: Result, name: str) -> None:
    """Prints which invariants hold for the model called `name`, and what failed."""
    console = Console()
    versions = ", ".join(f"{package} {version}" for package, version in result.versions.items())
    _line(console, f"{name}: {result.model}, adapter {result.adapter}, {result.dtype} on {result.device}; {versions}")
    _line(console, f"recipes: {', '.join(result.recipes)}; prompts: {', '.join(result.cases)}")
    table = Table("what must hold", "runs", "worst", "stock", "allowed", "holds", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in result.rows:
        table.add_row(*map(escape, row.cells))
    console.print(table)
    _line(
        console,
        "worst: what is wrong, counted, or a difference of logits as a share of their spread; stock: such a difference "
        "within the stock model, asked for in half precision, and in float32 where it would otherwise not hold",
    )
    for text in result.notes:
        _line(console, text)
    for row in result.rows:
        noted = (row.worst.note,) if row.worst is not None and row.worst.note else ()
        for text in row.failures or noted:
            _line(console, f"{row.name}: {text}")
    _line(console, f"{result.summary} ({result.seconds:.0f} s)")


def print_outcome(outcome: Outcome, place: str) -> None:
    """Prints the table of the demo and where its pictures are."""
    console = Console()
    fancy = console.encoding.lower().startswith("utf")
    table = Table(*outcome.header, box=SIMPLE_HEAD)
    for row in outcome.rows:
        cells = row.cells() if fancy else [cell.replace("→", "->") for cell in row.cells(("+", "-"))]
        table.add_row(*map(escape, cells))
    console.print(table)
    _line(console, outcome.summary)
    _line(console, f"{outcome.seconds:.1f} s; {len(outcome.overlays)} overlays and table.md are in {place}")


def _line(console: Console, text: str) -> None:
    console.print(shown(text), highlight=False)
