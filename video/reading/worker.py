"""The child process that decodes: takes one video and one choice of frames, hands over images, and goes.

It ends with its parent: when the pipe from there closes, whatever it is doing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .ipc import receive, send
from .limits import Limits
from .sources import Local

PULSE = 0.1
"""Seconds between signs of life."""
ERRORS = (FileNotFoundError, IsADirectoryError, PermissionError, OSError, TypeError, ImportError, ValueError)


def main() -> None:
    """Serve the one reading that comes through standard input; images go to what was standard output."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not end up among images
    source = sys.stdin.buffer
    try:
        _serve(source, out)
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        kind = next((kind.__name__ for kind in ERRORS if isinstance(error, kind)), "ValueError")
        message = str(error) if kind != "ValueError" or isinstance(error, ValueError) else repr(error)
        send(out, {"error": kind, "message": message})
    os._exit(0)  # threads of a decoding library may be stuck


def _serve(source: BinaryIO, out: BinaryIO) -> None:
    if (message := receive(source, 0)) is None:
        return
    request = message[0]
    pulse = _Pulse(out)
    limits = Limits(**request["limits"])
    local = Local(Path(request["path"]), limits, request["backend"], pulse, request["track"])
    _send_info(out, local)
    if request["probe"] or (message := receive(source, 1 << 30)) is None:
        return
    threading.Thread(target=_end_with, args=(source,), daemon=True).start()
    request, wanted = message[0], np.frombuffer(message[1], dtype="<i8")
    width, height = request["size"]
    for event in local.events(wanted.tolist(), (width, height), request["on_error"]):
        values = {name: getattr(event, name) for name in ("index", "source", "suspect", "resized", "failures", "seeks")}
        if event.pixels is None:
            send(out, values)
        else:
            send(out, {**values, "shape": event.pixels.shape}, event.pixels.data.cast("B"))
    send(out, {"end": True})


def _send_info(out: BinaryIO, local: Local) -> None:
    values: dict[str, Any] = asdict(local.info)
    del values["seconds"], values["keyframes"]
    seconds, keys = local.info.seconds.astype("<f8"), local.info.keyframes.astype("<i8")
    send(out, {"info": values}, seconds.tobytes() + keys.tobytes())


class _Pulse:
    """Signs of life, few enough to cost nothing."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._last = out, time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last > PULSE:
            self._last = now
            send(self._out, {"pulse": True})


def _end_with(source: BinaryIO) -> None:
    source.read()
    os._exit(1)
