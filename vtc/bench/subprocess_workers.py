"""Processes that answer a share of the work each, and send what they find.

Not a `concurrent.futures.ProcessPoolExecutor`: where one of its processes is killed, it kills the others over their
work and tells no exit code; where it is interrupted, it waits for the tasks in hand; and it starts Python as
`multiprocessing` does, in a way that imports from the current folder first.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.spawn import get_preparation_data, prepare
from typing import Any

from vtc.core.isolated_process import command, import_path

Job = Callable[[], Iterable[Any]]
"""What a process does: a picklable function of no arguments, such as a `functools.partial`, that gives messages."""


def gathered(jobs: Sequence[Job], threads: int) -> Generator[Any, None, list[int]]:
    """The messages of all `jobs`, as they come; when all have ended, the exit codes of their processes.

    Args:
        jobs: one for each process.
        threads: of torch, in each process.
    """
    running: dict[Connection, subprocess.Popen[bytes]] = {}
    try:
        for job in jobs:
            # A pipe each, since a killed process could hold a shared lock.
            reader, writer = Pipe(duplex=False)
            with writer:
                running[reader] = _started(writer, job, threads)
        return (yield from _received(dict(running)))
    finally:
        for reader, process in running.items():
            process.terminate()
            process.wait()
            reader.close()


def _started(writer: Connection, job: Job, threads: int) -> subprocess.Popen[bytes]:
    """A process that does `job`, not forked, since a forked one cannot use a GPU.

    The caller's main module is imported as `multiprocessing` does it, so that what it defines can be part of a job.
    """
    end = writer.fileno()
    process = subprocess.Popen(command(__name__, str(end), str(threads)), stdin=subprocess.PIPE, pass_fds=[end])
    assert process.stdin is not None
    about = {**get_preparation_data("vtc-bench"), "sys_path": import_path()}
    about.pop("authkey")  # of connections that are not used here, and never to be written to a pipe
    try:
        with process.stdin as pipe:
            pickle.dump(about, pipe)
            pickle.dump(job, pipe)
    except BrokenPipeError:
        pass  # it has ended; its exit code is reported when its messages are received
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def _received(running: dict[Connection, subprocess.Popen[bytes]]) -> Generator[Any, None, list[int]]:
    codes: list[int] = []
    while running:
        ready: list[Any] = wait(list(running))
        for reader in ready:
            try:
                message = reader.recv()
            except EOFError:
                codes.append(running.pop(reader).wait())
                continue
            yield message
    return codes


def main() -> None:
    """Does the job that comes through standard input. Ends when its parent is gone: nobody reads what it sends then."""
    end, threads = map(int, sys.argv[1:])
    writer = Connection(end, readable=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    prepare(pickle.load(sys.stdin.buffer))
    job: Job = pickle.load(sys.stdin.buffer)
    import torch

    torch.set_num_threads(threads)
    try:
        for message in job():
            writer.send(message)
    except BrokenPipeError:
        os._exit(1)
    writer.close()
