"""Jobs that are killed or asked to stop: the file can be gone on with, and ends as that of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.video.batch.videos import (
    FEW,
    clips,
    read,
    rows,
    save,
    timeless,
)
from vtc.cli.batch import asked_to_stop
from vtc.video import answer_batch
from vtc.video.batch import attempts

FIELDS = dict(batch=2, workers=1, **FEW)
OPTIONS = ["--batch", 2, "--workers", 1, "--frames", FEW["frames"], "--max-new-tokens", FEW["max_new_tokens"]]
"""The same of the command."""
SERVER = """
import json, os, sys
from vtc.video.batch import answerer, answer_batch, attempts
attempts.MOST = 1000
for line in sys.stdin:
    path, out, fields = json.loads(line)
    if not (child := os.fork()):
        answer_batch(path, out, **fields)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs jobs, each in a process of its own; what takes long to import is there before.

Kills come at random: none is held against a medium that happens to be read at two of them.
"""
LONG = 240
"""Seconds after which a job that writes nothing has failed, on the busiest of machines."""


def written(out):
    return out.read_bytes().count(b"\n") if out.exists() else 0


def grown(out, lines, over=lambda: False):
    """Waits until `out` has so many lines, or until it is `over`."""
    late = time.monotonic() + LONG
    while written(out) < lines and not over():
        assert time.monotonic() < late
        time.sleep(0.002)


@pytest.fixture
def forgiving(monkeypatch):
    """The last run holds no kill against a medium either."""
    monkeypatch.setattr(attempts, "MOST", 1000)


def killed(path, tmp_path, times, most):
    """Kills a job `times` times, each after up to `most` more rows and a moment, then lets it end."""
    whole, out = tmp_path / "whole.jsonl", tmp_path / "a.jsonl"
    answer_batch(path, whole, **FIELDS)
    chance, codes = random.Random(0), []
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        for _ in range(times):
            server.stdin.write(json.dumps([str(path), str(out), FIELDS]).encode() + b"\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            grown(out, min(written(out) + chance.randint(0, most), written(whole)))
            time.sleep(chance.uniform(0, 0.05))
            with suppress(ProcessLookupError):  # it may have ended
                os.kill(child, signal.SIGKILL)
            codes.append(int(server.stdout.readline()))
        server.stdin.close()
    assert set(codes) <= {0, -signal.SIGKILL}
    assert codes.count(-signal.SIGKILL) >= 0.8 * times
    before = written(out)
    summary = answer_batch(path, out, **FIELDS)
    assert (summary.fresh, summary.stopped) == (written(whole) - before, "")
    # A medium that was being read ahead at a kill is asked first: the rows are the same, their order need not be.
    assert in_order(read(out)) == in_order(read(whole))


def in_order(rows):
    return sorted(timeless(rows), key=lambda row: row["id"])


@pytest.mark.usefixtures("forgiving")
def test_killed_five_times(tmp_path):
    clips(tmp_path, 3)
    killed(save(tmp_path / "q.jsonl", rows(3, 8)), tmp_path, 5, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("forgiving")
def test_killed_fifty_times(tmp_path):
    clips(tmp_path, 20)
    killed(save(tmp_path / "q.jsonl", rows(20, 10)), tmp_path, 50, 6)


def test_sigterm_ends_the_command_after_the_row_in_hand(tmp_path):
    clips(tmp_path, 3)
    path, out = save(tmp_path / "q.jsonl", rows(3, 4)), tmp_path / "a.jsonl"
    command = [sys.executable, "-m", "vtc", "batch", path, "--out", out, *OPTIONS]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        grown(out, 1, lambda: process.poll() is not None)
        process.terminate()
        generation = process.communicate(timeout=LONG)[0].decode()
    assert process.returncode == 130, generation
    assert "ended early: interrupted; the same command goes on from here" in generation
    assert 2 <= written(out) < 12
    assert all(row["error"] is None for row in read(out))
    summary = answer_batch(path, out, **FIELDS)
    assert (summary.rows, summary.answered, summary.exit_code) == (12, 12, 0)
    assert [row["id"] for row in read(out)] == [row["id"] for row in rows(3, 4)]


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv[1:] = sys.argv[2:]
from vtc.cli.main import app
app()
"""
"""The command on a disk on which no file has room for more bytes than its first argument says."""


def test_a_full_disk_ends_the_command_and_the_next_one_goes_on(tmp_path):
    clips(tmp_path, 1)
    path, out = save(tmp_path / "q.jsonl", rows(1, 4)), tmp_path / "a.jsonl"
    answer_batch(path, tmp_path / "whole.jsonl", **FIELDS)
    room = (tmp_path / "whole.jsonl").stat().st_size * 2 // 3
    command = ["batch", path, "--out", out, *OPTIONS]
    done = subprocess.run([sys.executable, "-c", FULL, *map(str, [room, *command])], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"error: {out}: " in done.stderr.replace("\n", " ")
    assert "are safe: make room, and run the same again" in done.stderr
    assert "Traceback" not in done.stderr
    assert 0 < len(read(out)) < 4  # whole rows alone
    answer_batch(path, out, **FIELDS)
    assert timeless(read(out)) == timeless(read(tmp_path / "whole.jsonl"))


def test_ctrl_c_asks_once_and_interrupts_twice():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with asked_to_stop() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
