"""What `vtc app` does."""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory
from typing import Any

from .console import note, progress


def run(model: str | None, host: str, port: int | None, *, device: str = "auto", dtype: str = "auto") -> None:
    """Loads the models and serves the page until it is interrupted; uploads and drawn pictures are gone behind it.

    Raises:
        OSError, ValueError: gradio is not installed, a model that cannot be loaded, or a port that is taken.
    """
    with TemporaryDirectory(prefix="vtc-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # read when gradio is imported; this process serves the page alone
        _serve(model, host, port, device, dtype)


def _serve(model: str | None, host: str, port: int | None, device: str, dtype: str) -> None:
    serving = _serving()
    from .app.studio import Studio

    with progress() as say:
        say("loading")
        studio = Studio.load(model, device, dtype)
    if host not in ("127.0.0.1", "localhost", "::1"):
        note(f"--host {host}: everybody who reaches this machine's network can ask, and upload files")
    served = serving.serve(studio, host=host, port=port, wait=False)
    try:
        note(f"the page is at {served.url}; Ctrl-C ends it")
        served.blocks.block_thread()
    except KeyboardInterrupt:  # before the thread is blocked
        served.close()


def _serving() -> Any:
    try:
        from .app import serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "gradio":
            raise
        raise ValueError("vtc app needs gradio, which is not installed: pip install 'vtc-vlm[demo]'") from error
    return serve
