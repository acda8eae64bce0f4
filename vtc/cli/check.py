"""`vtc check`: the invariants by transformers, or the routes of transformers and vLLM beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vtc.core.budget import Keep
from vtc.inference.quiet import quiet

from .console import check_facts, print_check, print_json, progress
from .engine_options import json_object

if TYPE_CHECKING:
    from vtc.integrations.vllm.agreement import AgreementReport


def check_invariants(
    model: str,
    recipe: list[str] | None,
    keep: Keep | None,
    positions: str,
    max_new_tokens: int,
    device: str,
    dtype: str,
    engine_args: str | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Check the reduction by transformers, and print what holds.

    Raises:
        typer.Exit: 1: something does not.
        ValueError: arguments for an engine that is not asked, or what a recipe or the model cannot be.
    """
    from vtc.check.capture import few_threads
    from vtc.check.context import CheckContext
    from vtc.check.prompts import makers
    from vtc.check.runner import check, possible, require, runnable
    from vtc.check.runner import recipes as named
    from vtc.inference.loading import load

    if engine_args is not None:
        raise ValueError(f"engine_args={engine_args!r} are of vLLM; add --engine vllm, or leave them out")
    chosen = named(recipe, keep, positions)
    with quiet(), progress() as say:
        say("loading")
        network, processor = load(model, device=device, dtype=dtype)
        for one in chosen if recipe else ():
            require(network, one)
        able, left = runnable(network, chosen)
        with few_threads(network):
            cases, missing = possible(network, makers(network, processor))
            result = check(CheckContext(network, cases, able, max_new_tokens), (*left, *missing), say)
    if as_json:
        print_json(check_facts(result, model))
    else:
        print_check(result, model)
    if not result.holds:
        raise typer.Exit(1)


def check_engine(
    model: str,
    recipe: list[str] | None,
    keep: Keep | None,
    positions: str,
    max_new_tokens: int,
    device: str,
    dtype: str,
    engine: str,
    engine_args: str | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Compare the routes and print how they agree.

    Raises:
        typer.Exit: 1: they do not.
        ValueError: an unknown engine, arguments that are no JSON object, or see `compare_routes`.
    """
    from vtc.integrations.vllm.agreement import SPREAD, compare_routes
    from vtc.recipes.named import recipe as named

    if engine != "vllm":
        raise ValueError(f"engine={engine!r}; expected transformers or vllm")
    if positions != "both":
        raise ValueError(f"positions={positions!r}: in vLLM the model decides that; leave it out")
    arguments = json_object("engine_args", engine_args)
    chosen = None if not recipe and keep is None else [named(spec, keep=keep) for spec in recipe or SPREAD]
    with quiet(), progress() as say:
        report = compare_routes(
            model,
            chosen,
            device=device,
            dtype=dtype,
            max_new_tokens=max_new_tokens,
            engine_args=arguments,
            say=say,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        print_agreement(report)
    if not report.holds:
        raise typer.Exit(1)


def print_agreement(report: AgreementReport) -> None:
    """Print a row for each recipe, and what the columns mean."""
    console = Console()
    versions = ", ".join(f"{package} {version}" for package, version in report.versions.items())
    console.print(escape(f"{report.model}: {report.dtype}, {report.positions} positions; {versions}"), soft_wrap=True)
    table = Table(
        "recipe", "keep", "tokens", "prompts", "kept", "answers", "holds", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for row in report.rows:
        holds = "yes" if row.holds(report.dtype == "float32") else "NO"
        cells = (f"{row.before} -> {row.after}", f"{row.same_lengths}/{row.images}", f"{row.same_kept}/{row.images}")
        table.add_row(
            escape(row.recipe),
            f"{row.keep:g}",
            *cells,
            f"{row.same_answers}/{row.images}",
            "refused" if row.error else holds,
        )
    console.print(table)
    for row in report.rows:
        if row.error:
            console.print(escape(f"{row.recipe}: {row.error}"), soft_wrap=True)
    console.print(
        "prompts: as long by vLLM as by transformers; kept: the same tokens; answers: the same. "
        + ("The routes agree." if report.holds else "The routes do not agree."),
        soft_wrap=True,
    )
