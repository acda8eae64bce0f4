"""What `vtc app` does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from .console import note, progress

ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends the page beside Ctrl-C; not every system has both."""


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
    with _ended_by_signals(), TemporaryDirectory(prefix="vtc-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # read when gradio is imported; this process serves the page alone
        _serve(model, (host, port), (device, dtype, offline), share, auth)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and the end of the terminal end the block as Ctrl-C does, so that what it holds is cleaned up.

    They do so once: a second signal would end the cleaning.
    """
    came: list[int] = []

    def end(number: int, frame: Any) -> None:
        """End the block, the first time."""
        came.append(number)
        if len(came) == 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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

    serving.free_port(host, port)  # before a model is loaded for nothing
    with progress() as say:
        say("loading")
        state = AppState.load(model, device, dtype, offline=offline, say=note)
    if host not in ("127.0.0.1", "localhost", "::1"):
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
