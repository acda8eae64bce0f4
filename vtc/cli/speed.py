"""`vtc bench speed`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .console import note, print_json, progress, shown
from .options import MODELS, AsJson, Device, Dtype, parts

DEFAULT_RECIPES = "kcenter,random,resize"
ARCHITECTURES = "llava-1.5-7b, llava-next-7b, qwen2.5-vl-3b, qwen3-vl-4b, qwen3.5-4b, gemma4-e4b, internvl3-2b"

SHORT = {
    "visual tokens": "tokens",
    "first token, ms (quartiles)": "first token, ms",
    "times sooner": "sooner",
    "over the ideal": "of ideal",
    "requests a second": "a second",
    "encode, ms": "encode",
    "select, ms": "select",
    "merge, splice, ms": "splice",
    "ms a token": "token",
    "prefill FLOPs": "FLOPs",
}
"""Heads of columns where a terminal is narrow."""


def speed(
    model: Annotated[
        str | None, typer.Option(help=f"{MODELS} Default: small-llava, or tiny-llava where that is not here.")
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help=f"In place of --model an architecture at its real size, with random weights: {ARCHITECTURES}. What "
            "does not fit into memory loses layers, which is said."
        ),
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(min=1, help="Of --arch: layers of its language model at most, where a whole one takes too long."),
    ] = None,
    image_tokens: Annotated[
        int | None,
        typer.Option(help="Of --arch, where it takes images of any size: visual tokens of the largest of a batch."),
    ] = None,
    recipes: Annotated[str, typer.Option(help="Names or recipe files, parted by commas.")] = DEFAULT_RECIPES,
    keep: Annotated[str, typer.Option(help="Shares or counts of visual tokens, parted by commas.")] = ".5,.25,.1",
    batch: Annotated[str, typer.Option(help="Requests answered together, parted by commas.")] = "1,4",
    images: Annotated[int, typer.Option(help="Images of a request.")] = 1,
    frames: Annotated[int | None, typer.Option(help="Ask about a video of so many frames in place of images.")] = None,
    answer: Annotated[int, typer.Option(help="Tokens of an answer, for throughput.")] = 16,
    rounds: Annotated[int, typer.Option(help="Timed calls of each kind, taken in turns.")] = 7,
    patience: Annotated[float, typer.Option(help="Seconds a batch, after which no further round is begun.")] = 120.0,
    threads: Annotated[int | None, typer.Option(help="Of torch. Default: its own choice.")] = None,
    attn: Annotated[str | None, typer.Option(metavar="sdpa|eager|flash_attention_2", help="Attention kernel.")] = None,
    out: Annotated[Path | None, typer.Option(help="A directory for speed.json, speed.md and the chart.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Time answers with all visual tokens and with fewer, beside the ideal: as many embeddings, nothing selected.

    Calls are warmed up and taken in turns; medians are printed with their quartiles, slower ones too.
    """
    from vtc.bench.quality import has_matplotlib
    from vtc.bench.speed_plot import draw_speed
    from vtc.bench.speed_run import SpeedConfig, run
    from vtc.bench.speed_tables import speed_markdown
    from vtc.bench.variants import chosen, parse_keeps
    from vtc.inference.defaults import image_model
    from vtc.inference.quiet import quiet

    found, _ = chosen(parts(recipes, "--recipes"), None, None, frames is not None)
    if model is None and arch is None:
        model = image_model(offline=True, say=note)
    config = SpeedConfig(
        recipes=found,
        keeps=parse_keeps(keep),
        model=model,
        arch=arch,
        layers=layers,
        image_tokens=image_tokens,
        batches=_numbers(batch),
        images=images,
        frames=frames,
        rounds=rounds,
        answer=answer,
        patience=patience,
        device=device,
        dtype=dtype,
        attn=attn,
    )
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--out {out}: {error.strerror}; name a directory that can be written") from error
        if not has_matplotlib():
            note("no chart will be drawn: matplotlib is not installed (pip install matplotlib)")
    with quiet(), progress() as say:
        made = run(config, threads, say)
    if out is not None:
        (out / "speed.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        (out / "speed.md").write_text(speed_markdown(made), encoding="utf-8")
        drawn = draw_speed(made, out / "speed") if has_matplotlib() else None
        if drawn == []:
            note("no chart: no recipe was timed at two numbers of tokens; pass two --keep or more")
        note(f"tables and figures are in {out}")
    if as_json:
        print_json(made)
        return
    _print(made)


def _print(made: dict[str, Any]) -> None:
    """Two tables a batch that fit 80 columns, what was refused, and what it comes to in words."""
    from vtc.bench.speed_tables import GAIN, SPENT, by_batch, table, verdict

    console = Console()
    for size, rows in by_batch(made).items():
        title = f"{shown(made['model'])}, batch of {size}, {made['dtype']} on {made['device']}"
        measured = [row for row in rows if not row["refused"]]
        for head, name in ((GAIN, title), (SPENT, "what takes the time, ms")):
            columns, filled = table(measured, head, spread=False)
            drawn = Table(title=name, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for column in columns:
                drawn.add_column(SHORT.get(column, column), justify="left" if column == "recipe" else "right")
            for row in filled:
                drawn.add_row(*map(shown, row))
            console.print(drawn)
        for why in dict.fromkeys(f"{row['name']} refused: {row['refused']}" for row in rows if row["refused"]):
            console.print(shown(why), highlight=False)
    for line in verdict(made):
        console.print(shown(line), highlight=False)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in parts(text, "--batch"))
    except ValueError:
        raise typer.BadParameter(f"--batch {text!r}: expected whole numbers, such as 1,4,16") from None
