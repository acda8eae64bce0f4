"""The child that decodes: it says what a local reading says, can be killed, and outlives nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from tests.video.videos import (
    FRAMES,
    numbered,
    video,
    write,
)
from vtc.video.reading import (
    Limits,
    frames,
    probe,
)
from vtc.video.reading import (
    subprocess_reader as isolate,
)
from vtc.video.reading.ipc import HEAD, receive, send
from vtc.video.reading.sources import Local
from vtc.video.reading.worker import PULSE, _Pulse

LIGHT = """
import sys
from pathlib import Path
{imports}
from vtc.video.reading.worker import main
from vtc.video.reading.decoding import DecodingTally
from vtc.video.reading.limits import Limits
from vtc.video.reading.sources import Local
local = Local(Path(sys.argv[1]), Limits(), sys.argv[2])
assert sum(event.pixels is not None for event in local.events([3, 9], (96, 64), "skip")) == 2
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"torch", "transformers", "torchvision"}}))
"""
HOLDER = """
import os, signal, sys, time
from vtc.video.reading import frames
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
reading = frames(sys.argv[1])
next(reading)
print(reading._source._child._process.pid, flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    pass
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="session")
def large(folder) -> Path:
    """A video whose frames do not fit into a pipe."""
    return write(folder / "large.mp4", numbered(40, 240, 320), gop=10)


def pid_of(reading) -> int:
    return reading._source._child._process.pid


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process ends within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("backend", ["pyav", "opencv", "decord"])
def test_a_child_gives_what_a_local_reading_gives(folder, backend):
    taken = []
    for isolated in (False, True):
        with frames(video(folder, "mp4-b"), fps=7, resize=50, backend=backend, isolated=isolated) as reading:
            got = list(reading)
        taken.append((got, reading.report, reading.info))
    (local, told, info), (distant, said, seen) = taken
    assert [(f.index, f.seconds) for f in local] == [(f.index, f.seconds) for f in distant]
    for one, other in zip(local, distant, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert other.pixels.flags.writeable
        assert other.pixels.flags.c_contiguous
    assert (told.asked, told.delivered, told.lost, told.seeks) == (said.asked, said.delivered, said.lost, said.seeks)
    assert str(info) == str(seen)
    assert np.array_equal(info.seconds, seen.seconds)
    assert np.array_equal(info.keyframes, seen.keyframes)


def test_errors_come_through_as_they_are(folder, tmp_path):
    (tmp_path / "text.mp4").write_text("no video " * 50)
    with pytest.raises(ValueError, match=r"text\.mp4 is no video"):
        frames(tmp_path / "text.mp4")
    with pytest.raises(ValueError, match="Limits"):
        probe(video(folder, "mp4"), limits=Limits(frames=10))
    assert probe(video(folder, "mp4")).frames == 60


@pytest.mark.parametrize("backend", ["pyav", "opencv", "decord"])
def test_decoding_imports_neither_torch_nor_transformers(folder, backend):
    for imports, expected in (("", "[]"), ("sys.modules['torch'] = sys", "['torch']")):  # the second is the control
        if imports and backend != "pyav":
            continue
        command = [sys.executable, "-c", LIGHT.format(imports=imports), str(video(folder, "mp4")), backend]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.splitlines()[-1:] == [expected], done.stderr


def test_a_running_child_has_no_torch_in_it(large):
    with frames(large) as reading:
        next(reading)
        maps = Path(f"/proc/{pid_of(reading)}/maps").read_text()
    assert "libavcodec" in maps
    assert "torch" not in maps


def test_a_child_that_hangs_is_killed(large):
    with frames(large) as reading:
        first = next(reading)
        child, reading._source._timeout = pid_of(reading), 0.5
        os.kill(child, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no progress in 0\.5 s \(\d+ of 40 "):
            list(reading)
        assert time.monotonic() - begun < 20
    assert first.index == 0
    assert gone(child)
    with pytest.raises(ValueError, match=r"large\.mp4 is closed"):
        next(reading)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_child_that_crashes_is_an_error_with_what_came(large, how):
    with frames(large) as reading:
        for _ in range(3):
            next(reading)
        os.kill(pid_of(reading), how)
        with pytest.raises(OSError, match=rf"signal {int(how)}\b.*\d+ of 40 "):
            list(reading)
        assert 3 <= reading.report.delivered < 40


def test_the_callers_own_time_does_not_count(large):
    with frames(large, indices=[0, 39]) as reading:
        reading._source._timeout = 0.5
        next(reading)
        time.sleep(0.7)
        assert next(reading).index == 39


def test_work_without_a_frame_shows_signs_of_life(folder):
    """Each packet is a sign, though no frame is handed over; few of them are sent."""
    signs = []
    local = Local(video(folder, "mp4-one-key"), Limits(), "pyav", lambda: signs.append(time.monotonic()))
    opened = len(signs)
    assert opened >= FRAMES
    assert sum(1 for _ in local.events([FRAMES - 1], (96, 64), "skip")) == 1
    assert len(signs) >= opened + FRAMES - 3
    local.close()
    pipe = BytesIO()
    pulse = _Pulse(pipe)
    begun = time.monotonic()
    while time.monotonic() < begun + 3.5 * PULSE:
        pulse()
    assert 2 <= len(pipe.getvalue()) / (HEAD.size + len('{"pulse": true}')) <= 4


def test_few_frames_are_under_way(large):
    with frames(large) as reading:
        next(reading)
        time.sleep(0.5)
        child = reading._source._child
        assert child.messages.qsize() <= isolate.AHEAD < 40
        before = Path(f"/proc/{pid_of(reading)}/stat").read_text().split()[13:15]
        time.sleep(0.3)
        after = Path(f"/proc/{pid_of(reading)}/stat").read_text().split()[13:15]
    assert after == before, "the child waits for the caller"


def test_nothing_is_left_behind(large):
    threads = threading.active_count()
    descriptors = len(os.listdir("/proc/self/fd"))
    children = []
    for _ in range(3):
        with frames(large) as reading:
            next(reading)
            children.append(pid_of(reading))
    reading = frames(large)
    children.append(pid_of(reading))
    del reading  # never closed
    assert all(gone(child) for child in children)
    until = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.02)
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= descriptors


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_child_ends_with_its_parent(large, how):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(large)], stdout=subprocess.PIPE, text=True) as holder:
        child = int(holder.stdout.readline())
        assert not gone(child, 0.1), "control: it lives while its parent does"
        holder.send_signal(how)
        assert gone(child)


def test_messages_are_what_was_sent():
    pipe = BytesIO()
    send(pipe, {"a": [1, None]}, b"xyz")
    send(pipe, {"b": "ä"})
    pipe.seek(0)
    assert receive(pipe, 3) == ({"a": [1, None]}, bytearray(b"xyz"))
    assert receive(pipe, 3) == ({"b": "ä"}, bytearray())
    assert receive(pipe, 3) is None


@pytest.mark.parametrize(
    "data", [HEAD.pack(3, 10**12), HEAD.pack(2**31, 0), HEAD.pack(2, 0) + b"[]", HEAD.pack(1, 0) + b"{"]
)
def test_what_a_hostile_child_sends_is_refused(data):
    with pytest.raises(ValueError, match=r".+"):
        receive(BytesIO(data), 10**6)


def test_half_a_message_is_the_end():
    assert receive(BytesIO(HEAD.pack(3, 0) + b"{}"), 10) is None
