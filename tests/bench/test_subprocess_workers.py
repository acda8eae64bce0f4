"""Processes that share out the work of a benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial

import pytest

from vtc.bench.subprocess_workers import gathered

MAIN = """
import sys
from dataclasses import dataclass
from functools import partial

@dataclass
class Mine:
    value: int

def job(value):
    yield value

if __name__ == "__main__":
    from vtc.bench.subprocess_workers import gathered
    print(list(gathered([partial(job, Mine(7))], 1)))
"""


def test_messages_of_all_come_as_they_are_sent():
    assert sorted(gathered([partial(range, 3), partial(range, 10, 12)], 1)) == [0, 1, 2, 10, 11]


def test_exit_codes_are_returned():
    def all_of():
        codes.extend((yield from gathered([partial(range, 1), partial(os._exit, 7)], 1)))

    codes: list[int] = []
    assert list(all_of()) == [0]
    assert sorted(codes) == [0, 7]


def test_what_the_main_module_defines_can_be_part_of_a_job(tmp_path):
    (tmp_path / "script.py").write_text(MAIN)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[Mine(value=7)]", done.stderr


def test_no_code_of_the_current_folder_is_run(tmp_path, monkeypatch):
    for name in ("pickle", "socket", "multiprocessing"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    assert list(gathered([partial(range, 1)], 1)) == [0]
    assert not (tmp_path / "ran").exists()


def test_processes_end_when_nobody_waits_for_them():
    begun = time.monotonic()
    messages = gathered([partial(_slow, 60)], 1)
    pid = next(messages)
    messages.close()
    assert time.monotonic() - begun < 50
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _slow(seconds: float):
    yield os.getpid()
    time.sleep(seconds)
