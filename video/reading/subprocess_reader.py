"""Decoding in a child that can be killed: a hanging, crashing or hostile file ends one reading, not the program."""

from __future__ import annotations

import dataclasses
import queue
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from vtc.core.isolated_process import command

from .info import Info
from .ipc import receive, send
from .limits import Limits
from .lost_frames import DecodingEvent
from .tracks import Track

AHEAD = 3
"""Messages that wait for the caller at most; then the child waits."""
KINDS = {
    kind.__name__: kind
    for kind in (FileNotFoundError, IsADirectoryError, PermissionError, OSError, TypeError, ImportError, ValueError)
}
CHILD = "vtc.video.reading.worker"
"""Not by `multiprocessing`, whose children import the caller's main module, and with it torch and models."""


class Isolated:
    """A child that has opened one video.

    Args:
        path: the video.
        limits: on it.
        backend: the name of a decoding library.
        timeout: seconds without a sign of life after which the child is killed.
        probe: whether no frames will be asked for.
        track: which track to read; None: the one that players show.

    Raises:
        OSError, ValueError: what the child raised, that it died, or that it is stuck.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        backend: str,
        timeout: float,
        probe: bool = False,
        track: int | None = None,
    ) -> None:
        self._path, self._timeout, self._limits = path, timeout, limits
        self._delivered, self._asked = 0, 0
        self._child = _Child(limits)
        self._stop = weakref.finalize(self, self._child.stop)
        try:
            request = {
                "path": str(path),
                "backend": backend,
                "probe": probe,
                "track": None if track is None else int(track),
            }
            self._child.send({**request, "limits": dataclasses.asdict(limits)})
            self._info = self._receive_info()
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> Info:
        """See `Source`."""
        return self._info

    def events(self, wanted: Sequence[int], size: tuple[int, int], on_error: str) -> Iterator[DecodingEvent]:
        """See `Source`.

        Raises:
            OSError, ValueError: as above.
        """
        self._asked = len(wanted)
        self._child.send({"size": size, "on_error": on_error}, np.asarray(wanted, dtype="<i8").tobytes())
        for index in wanted:
            values, body = self._next()
            yield self._event(values, body, int(index), (size[1], size[0], 3))
            self._delivered += "shape" in values
        self._next()

    def close(self) -> None:
        """See `Source`."""
        self._stop()

    def _event(self, values: dict[str, Any], body: bytearray, index: int, shape: tuple[int, int, int]) -> DecodingEvent:
        given = values.get("shape")
        fits = given is None or (tuple(given) == shape and len(body) == np.prod(shape))
        if values.get("index") != index or not fits:
            raise OSError(f"{self._path}: the child that decodes sent what was not asked for ({values})")
        pixels = None if given is None else np.frombuffer(body, dtype=np.uint8).reshape(shape)
        flags = bool(values["suspect"]), bool(values["resized"])
        return DecodingEvent(
            index, pixels, int(values["source"]), *flags, int(values["failures"]), int(values["seeks"])
        )

    def _receive_info(self) -> Info:
        values, body = self._next()
        count = int(values["info"]["frames"])
        numbers = bytes(body)
        seconds = np.frombuffer(numbers[: count * 8], dtype="<f8")
        keys = np.frombuffer(numbers[count * 8 :], dtype="<i8")
        tracks = tuple(Track(**track) for track in values["info"]["tracks"])
        known = {**values["info"], "tracks": tracks, "audio": tuple(values["info"]["audio"])}
        return Info(**known, seconds=seconds, keyframes=keys)

    def _next(self) -> tuple[dict[str, Any], bytearray]:
        """The next message that is more than a sign of life."""
        while True:
            try:
                message = self._child.messages.get(timeout=self._timeout)
            except queue.Empty:
                self.close()
                raise TimeoutError(
                    f"{self._path}: no progress in {self._timeout:g} s {self._so_far()}; the file is damaged or the "
                    "machine is busy: raise timeout, or repair the video"
                ) from None
            if message is None:
                raise ChildProcessError(f"{self._path}: the child that decodes {self._child.fate()} {self._so_far()}")
            values = message[0]
            if "error" in values:
                raise KINDS.get(values["error"], ValueError)(values["message"])
            if "pulse" not in values:
                return message

    def _so_far(self) -> str:
        return f"({self._delivered} of {self._asked} frames were delivered)" if self._asked else "while opening it"


class _Child:
    """The process, and the thread that takes its messages off the pipe."""

    def __init__(self, limits: Limits) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command(CHILD),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self.messages: queue.Queue[tuple[dict[str, Any], bytearray] | None] = queue.Queue(AHEAD)
        self._over = threading.Event()
        # An image, or two arrays of 8-byte numbers per frame.
        most = max(3 * limits.pixels, 16 * limits.frames)
        arguments = (self._process.stdout, most, self.messages, self._over)
        threading.Thread(target=_pump, args=arguments, daemon=True).start()

    def send(self, values: dict[str, Any], body: bytes = b"") -> None:
        """Send the child a message: values, and bytes behind them."""
        with suppress(OSError):  # where the child is gone, its last message or its end says why
            send(self._process.stdin, values, body)  # type: ignore[arg-type]

    def fate(self) -> str:
        """How the child ended."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"{how} [{lines[-1][:300]}]" if lines else how

    def stop(self) -> None:
        """Kill the child and wait for its end."""
        self._over.set()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._errors):
            with suppress(OSError):  # what could not be flushed has no reader
                pipe.close()  # type: ignore[union-attr]


def _pump(pipe: BinaryIO, most: int, messages: queue.Queue[Any], over: threading.Event) -> None:
    """Hand messages over until there are none; None is the last."""
    with pipe:
        while not over.is_set():
            try:
                message = receive(pipe, most)
            except (ValueError, OSError) as error:
                wrong = f"the child that decodes sent no message: {error}"
                message = ({"error": "OSError", "message": wrong}, bytearray())
            while not over.is_set():
                try:
                    messages.put(message, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if message is None:
                return
