"""Drivers of Ray in processes and sessions of their own, for tests that kill or stop them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

SERVER = """
import json, os, sys
import ray.data
from vtc.cli.main import app
from vtc.video.batch.ray.engine import answer_batch_on_ray
import vtc.video.batch.ray.blocks
for line in sys.stdin:
    log, arguments, cluster = json.loads(line)
    if not (child := os.fork()):
        os.setsid()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        if cluster is None:
            app(arguments)
        ray.init(**cluster)
        sys.exit(answer_batch_on_ray(*arguments[:2], **arguments[2]).exit_code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs drivers one after the other; what takes long to import is there before. Each starts a cluster of its own."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "PYTHONUNBUFFERED": "1"}
"""Niced workers do not come up where something else keeps the cores busy."""
LONG = 240
"""Seconds after which a driver that writes nothing has failed, on the busiest of machines."""


class Drivers:
    """Starts drivers; `log` holds what they print."""

    def __init__(self, server: subprocess.Popen[str], log: Path) -> None:
        self._server, self.log = server, log
        self._sessions: list[int] = []

    def start(self, *arguments: object, cluster: dict[str, object] | None = None) -> int:
        """Starts the command with `arguments`, or where a cluster is described `answer_batch_on_ray` on it.

        Returns its id, which is also that of its session and of its group.
        """
        assert self._server.stdin
        self._server.stdin.write(json.dumps([str(self.log), arguments, cluster], default=str) + "\n")
        self._server.stdin.flush()
        self._sessions.append(self._said())
        return self._sessions[-1]

    def code(self) -> int:
        """Waits until the last one has ended; its exit code, or the negated signal."""
        return self._said()

    def _said(self) -> int:
        assert self._server.stdout
        return int(self._server.stdout.readline())

    def clean(self) -> None:
        """Ends what outlived the drivers, by their sessions: other clusters may run on this machine.

        Ray's agents were seen to outlive a killed one by more than 20 seconds.
        """
        left = [pid for session in self._sessions for pid in members(session)]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def drivers(folder: Path):
    """Drivers, and none of their processes afterwards."""
    command, env = [sys.executable, "-c", SERVER], {**os.environ, **QUIET}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as server:
        found = Drivers(server, folder / "drivers.log")
        try:
            yield found
        finally:
            assert server.stdin
            server.stdin.close()
            found.clean()


def members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            state, *_, number = path.read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


def grown(count, least: int, over=lambda: False) -> None:
    """Waits until `count()` is `least` at least."""
    late = time.monotonic() + LONG
    while count() < least:
        assert time.monotonic() < late
        time.sleep(0.01)
