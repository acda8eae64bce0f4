"""How the `vtc` command speaks: plain errors, notes, tables."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

if TYPE_CHECKING:
    from vtc.check.runner import ModelResult
    from vtc.inference.asking import Comparison
    from vtc.recipes.composition import Recipe
    from vtc.video.reading import Info, ReadReport

    from .demo import DemoOutcome


EXPECTED = (ValueError, TypeError, OSError, OverflowError, RecursionError, ImportError)
"""What is raised over what was passed, or over what is there; all else is a fault of our own."""
INTERNAL, INTERRUPTED = 70, 130
LONGEST = 2000
"""Characters of an error: it may quote a file's contents."""
MOST = 500
"""Characters of an error that is not ours."""
_USAGE: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""What a wrong option raises: of click, or of typer, by its version."""
_CONTEXT: Any = import_module(_USAGE.__module__.rpartition(".")[0] + ".globals").__dict__["get_current_context"]
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def shown(text: object) -> str:
    """Words of a file, a model or a person, as they may be printed.

    What looks like markup is text, and control characters, by which a file's name could drive the terminal (CWE-150),
    become U+FFFD.
    """
    return escape(_CONTROLS.sub("\ufffd", str(text)))


def print_json(value: object) -> None:
    """Print `value` as JSON, for machines."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


class PlainErrors(TyperGroup):
    """Commands whose expected errors are one line on stderr, unless `--debug` is given, before or after the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move `--debug` to the front, where it is known."""
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(a for a in args[:end] if a != "--debug"), *args[end:]]
        return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; whatever ends it is one line on stderr and an exit code, see `ended`."""
        try:
            return super().invoke(ctx)
        except BaseException as error:
            if ctx.params.get("debug") or isinstance(error, (typer.Exit, typer.Abort, SystemExit, _USAGE)):
                raise
            raise typer.Exit(ended(error)) from None


def debugging() -> bool:
    """Whether the command that runs was given `--debug`."""
    context: Any = _CONTEXT(silent=True)
    return context is not None and bool(context.find_root().params.get("debug"))


def ended(error: BaseException) -> int:
    """Say what ended a command, and give its exit code.

    1: what was passed or is there does not do; 70: a fault of our own; 130: interrupted. Where nobody reads
    the output any more nothing is said: 1, as click and rich end.
    """
    if isinstance(error, KeyboardInterrupt):
        say_error("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # What is still buffered would raise once more when Python closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    if isinstance(error, EXPECTED) or _is_memory(error):
        say_error(words_of(error))
        return 1
    kind = type(error).__name__
    say_error(f"internal: {kind}: {' '.join(str(error).split())[:MOST]}; run with --debug for the traceback")
    return INTERNAL


def words_of(error: BaseException) -> str:
    """An expected error in words: a file's name and what is wrong with it, where the system says no more."""
    if _is_memory(error):
        return f"memory does not suffice: {str(error) or 'take fewer frames, a smaller image or a smaller batch'}"
    if isinstance(error, RecursionError):
        return "what was passed is nested too deeply to be read"
    if isinstance(error, OSError) and error.strerror and error.filename is not None and error.errno is not None:
        names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{names}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    return str(error) or type(error).__name__


def _is_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, of the machine or of a GPU; torch is not imported to find out."""
    named = type(error).__name__ == "OutOfMemoryError"
    return isinstance(error, MemoryError) or named or "can't allocate memory" in str(error)


def _say(mark: str, text: str) -> None:
    Console(stderr=True).print(f"{mark} {shown(text)}", highlight=False, soft_wrap=True)


def say_error(text: str) -> None:
    """Print an error on stderr, on one line, of a length that can be read."""
    words = " ".join(text.split())
    _say("[red]error:[/red]", words if len(words) <= LONGEST else f"{words[:LONGEST]} ...")


def note(text: str) -> None:
    """Print a note on stderr."""
    _say("[yellow]note:[/yellow]", text)


@contextmanager
def notes() -> Iterator[None]:
    """Print the warnings of the block as notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        note(str(warning.message))


def note_view(size: tuple[int, int], processor: Any) -> None:
    """Say so where the processor shows the encoder a part of the image only, or a squeezed one."""
    from vtc.viz.visible_crop import coverage

    try:
        seen = coverage(size, processor.image_processor)
    except ValueError:  # a processor whose steps are not known: nothing can be said about it
        return
    if seen.share < 0.995:
        note(f"the model's processor crops the image to its middle: the encoder sees {_percent(seen.share)} of it")
    if seen.squeezed >= 2:
        shape = f"{size[0]} x {size[1]}"
        note(f"the model's processor squeezes the {shape} image {seen.squeezed:.1f}-fold along its long side")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def print_comparison(result: Comparison, recipe: Recipe) -> None:
    """Print two answers and what they cost, side by side."""
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
    """Print how a video was read."""
    lost = f"{len(report.lost)} lost" if report.lost else "none lost"
    of = f"{report.delivered} of {info.frames} frames of {info.duration:.4g} s of video"
    _line(Console(), f"read: {of}, {lost}, {report.seconds:.2f} s of reading (not in the times above)")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Shows, on a terminal only, what the block says it is doing."""
    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(shown(text))


def print_check(result: ModelResult, name: str) -> None:
    """Print which invariants hold for the model called `name`, and what failed."""
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


def check_facts(result: ModelResult, name: str) -> dict[str, Any]:
    """What `print_check` prints, as JSON can hold it."""
    heads = ("name", "holds", "runs", "where", "failures")
    rows = [{**{head: getattr(row, head) for head in heads}, **_figures(row.worst)} for row in result.rows]
    about = ("model", "adapter", "versions", "device", "dtype", "recipes", "cases", "notes", "seconds", "holds")
    return {"checkpoint": name, **{head: getattr(result, head) for head in about}, "rows": rows}


def _figures(worst: Any) -> dict[str, Any]:
    return {head: getattr(worst, head, None) for head in ("worst", "stock", "allowed")}


def comparison_facts(result: Comparison, recipe: Recipe) -> dict[str, Any]:
    """What `print_comparison` prints, as JSON can hold it."""
    return {
        "recipe": recipe.name,
        "keep": recipe.keep,
        "answer_full": result.full,
        "answer": result.short,
        "seconds_full": result.seconds_full,
        "seconds": result.seconds_short,
        "rounds": result.rounds,
        "report": result.report.to_dict(),
    }


def print_demo_answers(outcome: DemoOutcome) -> None:
    """Print the table of the demo, and what is done next."""
    console = Console()
    fancy = console.encoding.lower().startswith("utf")
    table = Table(*outcome.header, box=SIMPLE_HEAD)
    for row in outcome.rows:
        cells = row.cells() if fancy else [cell.replace("→", "->") for cell in row.cells(("+", "-"))]
        table.add_row(*map(escape, cells))
    console.print(table)
    _line(console, outcome.summary)
    note("timing single requests and batches, with all tokens and with fewer, in turns ...")


def print_demo_savings(outcome: DemoOutcome, place: str) -> None:
    """Print what the recipe of the demo saves on this machine, and where its images are."""
    from .demo import SAVED
    from .savings import why

    console = Console()
    table = Table(*SAVED[:2], f"keep {outcome.recipe.keep}", SAVED[3], box=ROUNDED)
    for column in table.columns[1:]:
        column.justify = "right"
    for one in outcome.savings:
        table.add_row(*map(escape, one.cells()))
    if outcome.savings:
        console.print(table)
    if sentence := why(outcome.savings):
        _line(console, sentence)
    _line(console, f"{outcome.seconds:.1f} s; {len(outcome.overlays)} overlays and table.md are in {place}")


def _line(console: Console, text: str) -> None:
    console.print(shown(text), highlight=False)
