"""What `vtc serve` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtc.core.ports import LOCAL, free_port

from .console import note, progress
from .options import MODELS, Device, Dtype, KeepText, Positions, keep_number
from .signals import ended_by_signals

if TYPE_CHECKING:
    from vtc.core.budget import Keep


def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODELS, show_default=False)],
    recipe: Annotated[
        str | None,
        typer.Option(help="A name from `vtc recipes` or a recipe file; requests may name others. Default: kcenter."),
    ] = None,
    keep: KeepText = None,
    positions: Positions = None,
    host: Annotated[str, typer.Option(help="The address to bind to; by default only this machine reaches it.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="What requests call the model. Default: MODEL.", show_default=False)
    ] = None,
    allow_urls: Annotated[
        bool,
        typer.Option("--allow-urls", help="Fetch media that are http(s) addresses, whatever this machine reaches."),
    ] = False,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 1024,
    max_prompt: Annotated[
        int | None,
        typer.Option(min=1, metavar="TOKENS", help="Of a prompt, unreduced, at most. Default: what the model takes."),
    ] = None,
    max_waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait; more get 429.")] = 32,
    max_request: Annotated[int, typer.Option(min=1, metavar="MIB", help="Of a request, with its media.")] = 64,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a video at most.")] = 64,
    fps: Annotated[float, typer.Option(help="Frames a second to take.")] = 2.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Serve one model over OpenAI's chat completions, with fewer visual tokens, one request at a time.

    Each request may carry its own recipe and keep. For many users at once take vLLM.
    """
    limits = {"body": max_request << 20, "waiting": max_waiting, "answer": max_tokens, "prompt": max_prompt}
    run(
        model,
        (recipe, keep_number(keep), positions),
        (host, port),
        (device, dtype),
        {**limits, "frames": frames, "fps": fps},
        name=name,
        allow_urls=allow_urls,
    )


def run(
    model: str,
    recipe: tuple[str | None, Keep | None, str | None],
    place: tuple[str, int],
    loading: tuple[str, str],
    limits: dict[str, Any],
    *,
    name: str | None = None,
    allow_urls: bool = False,
) -> None:
    """Load `model` and answer until a signal ends it.

    Args:
        recipe: by name, `keep` and `positions`.
        place: host and port.
        loading: device and dtype.
        limits: of `ServerLimits`.
        name: as requests name the model; None: as the command does, of a directory its last part.

    Raises:
        OSError, ValueError: a package that is not installed, a model that cannot be loaded or run by the recipe, or a
            port that is taken.
    """
    server = _server()
    from vtc.inference.loading import load
    from vtc.inference.quiet import quiet
    from vtc.integrations.serve.answering import ServedModel
    from vtc.integrations.serve.limits import ServerLimits
    from vtc.integrations.serve.request_recipe import RecipeDefaults
    from vtc.recipes.named import DEFAULT

    (spec, keep, positions), (host, port), (device, dtype) = recipe, place, loading
    defaults, bounds = RecipeDefaults.of(spec or DEFAULT, keep, positions), ServerLimits(**limits)
    free_port(host, port)  # before a model is loaded for nothing
    with ended_by_signals(), quiet():
        with progress() as say:
            say("loading")
            network, processor = load(model, device=device, dtype=dtype)
        served = ServedModel(name or _name(model), network, processor, defaults, bounds)
        served.check()
        if host not in LOCAL:
            note(f"--host {host}: everybody who reaches this machine's network can ask; there is no authentication")
        if allow_urls:
            note("--allow-urls: whoever asks can have this machine fetch what it reaches over http")
        server.ChatServer(
            served,
            host=host,
            port=port,
            allow_urls=allow_urls,
            say=note,
            on_start=lambda url: _welcome(served.name, defaults, url),
        ).run()


def _welcome(name: str, defaults: Any, url: str) -> None:
    note(
        f"{name} answers at {url} by {defaults.recipe.name}, keep {defaults.recipe.keep}: one request at a time (under "
        "load take vLLM); Ctrl-C ends it"
    )


def _name(model: str) -> str:
    """The name of a model; a directory's place is nobody's business."""
    path = Path(model).expanduser()
    return path.resolve().name if path.is_dir() else model


def _server() -> Any:
    try:
        from vtc.integrations.serve import server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise ValueError(
            f"vtc serve needs {error.name}, which is not installed: pip install starlette uvicorn"
        ) from error
    return server
