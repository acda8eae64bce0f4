"""`vtc bench serve`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .console import note, print_json, progress
from .engine_options import json_object
from .options import AsJson, parts


def serve(
    model: Annotated[
        str | None,
        typer.Option(
            help="An embedded model, a directory or a hub id. Where its tower takes images of one size there is no "
            "ideal, and --videos is 0. Default: the shape of a 0.5 B language model, with random weights."
        ),
    ] = None,
    layers: Annotated[int, typer.Option(min=1, max=24, help="Of that language model, of 24.")] = 24,
    recipe: Annotated[str, typer.Option(help="What chooses the tokens: names, parted by commas.")] = "kcenter",
    keep: Annotated[str, typer.Option(help="Shares or counts of visual tokens, parted by commas.")] = "1.0,.25,.1",
    concurrency: Annotated[str, typer.Option(help="Requests at a time, parted by commas.")] = "1,4,16,32",
    requests: Annotated[int, typer.Option(min=1, help="In a round of one kind.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Of each kind, in turns.")] = 3,
    image_tokens: Annotated[int, typer.Option(min=4, help="Visual tokens of an image of any size.")] = 784,
    videos: Annotated[float, typer.Option(min=0, max=1, help="Share of requests about a video.")] = 0.25,
    shared: Annotated[
        float, typer.Option(min=0, max=1, help="Share of requests about a medium that others share.")
    ] = 0.5,
    answer: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 8,
    engine_args: Annotated[
        str | None, typer.Option(metavar="JSON", help='Of `vllm serve`, such as \'{"dtype": "bfloat16"}\'.')
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A directory for serve.json and serve.md.")] = None,
    as_json: AsJson = False,
) -> None:
    """Load stock vLLM, vLLM with vtc, and the ideal: stock vLLM with images that make as many tokens.

    Two servers on this machine alone, one under load at a time; kinds of requests take turns. Medians over rounds, with
    the least and the most.
    """
    from vtc.bench.serve_run import ServeConfig, cells, run, serve_markdown
    from vtc.bench.variants import parse_keeps

    config = ServeConfig(
        model=model,
        layers=layers,
        recipes=tuple(parts(recipe, "--recipe")),
        keeps=tuple(parse_keeps(keep)),
        concurrency=tuple(int(part) for part in parts(concurrency, "--concurrency")),
        requests=requests,
        rounds=rounds,
        image_tokens=image_tokens,
        videos=videos,
        shared=shared,
        answer=answer,
        engine_args=json_object("engine_args", engine_args),
    )
    with progress() as say:
        made = run(config, say)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "serve.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        (out / "serve.md").write_text(serve_markdown(made), encoding="utf-8")
        note(f"tables and figures are in {out}")
    if as_json:
        print_json(made)
        return
    table = Table(
        "at once", "requests", "prompt", "req/s", "x stock", "of ideal", "p50 ms", "p99 ms", "KV", box=SIMPLE_HEAD
    )
    for row in made["rows"]:
        table.add_row(*(cell.split(" (")[0] for cell in cells(row)))
    Console().print(table)
