"""What `vtc app` does."""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory
from typing import Any

from vtc.core.ports import LOCAL, free_port

from .console import note, progress
from .signals import ended_by_signals


def run(
    model: str | None,
    host: str,
    port: int | None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    offline: bool = False,
    share: bool = False,
    auth: str | None = None,
) -> None:
    """Load the models and serve the page until a signal ends it; uploads and drawn images are gone behind it.

    Raises:
        OSError, ValueError: gradio is not installed, a model that cannot be loaded, or a port that is taken.
    """
    with ended_by_signals(), TemporaryDirectory(prefix="vtc-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # read when gradio is imported; this process serves the page alone
        _serve(model, (host, port), (device, dtype, offline), share, auth)


def _serve(
    model: str | None,
    place: tuple[str, int | None],
    loading: tuple[str, str, bool],
    share: bool,
    auth: str | None,
) -> None:
    (host, port), (device, dtype, offline) = place, loading
    serving, credentials = _serving(), _credentials(auth)
    from vtc.app.state import AppState

    free_port(host, port)  # before a model is loaded for nothing
    with progress() as say:
        say("loading")
        state = AppState.load(model, device, dtype, offline=offline, say=note)
    if host not in LOCAL:
        note(f"--host {host}: everybody who reaches this machine's network can ask, and upload files")
    if share and credentials is None:
        note("--share: whoever knows the address can ask, and upload files; --auth USER:PASSWORD asks for a password")
    served = serving.serve(state, host=host, port=port, wait=False, share=share, auth=credentials)
    try:
        note(f"the page is at {served.url}; Ctrl-C ends it")
        served.blocks.block_thread()
    except KeyboardInterrupt:  # before the thread is blocked
        served.close()


def _credentials(text: str | None) -> tuple[str, str] | None:
    """Name and password of `--auth`. ValueError where one is missing."""
    if text is None:
        return None
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise ValueError("--auth: expected USER:PASSWORD, both not empty")
    return name, password


def _serving() -> Any:
    try:
        from vtc.app import serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "gradio":
            raise
        raise ValueError("vtc app needs gradio, which is not installed: pip install gradio") from error
    return serve
