"""What is free is asked before much is taken."""

from __future__ import annotations

import numpy as np
import pytest

from tests.video.videos import write
from vtc.core import memory
from vtc.core.memory import check_room, room
from vtc.video import Sampling, probe

MEMINFO = "MemTotal:       16000 kB\nMemAvailable:    4096 kB\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 4 MiB, and no group."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    return tmp_path


def group(folder, names, values):
    folder.mkdir(exist_ok=True)
    for name, value in zip(names, values, strict=True):
        (folder / f"memory.{name}").write_text(value)


@pytest.mark.parametrize(
    ("folder", "names", "values", "free"),
    [
        ("", ("max", "current", "stat"), ("3000000\n", "2000000\n", "anon 5\ninactive_file 70\n"), 1000070),
        ("", ("max", "current", "stat"), ("max\n", "2000000\n", "inactive_file 70\n"), 4 << 20),
        ("", ("max", "current", "stat"), ("10\n", "2000000\n", "inactive_file 70\n"), 0),
        (
            "memory",
            ("limit_in_bytes", "usage_in_bytes", "stat"),
            ("3000000", "1000000", "total_inactive_file 5\n"),
            2000005,
        ),
        ("", ("max",), ("what?",), 4 << 20),
    ],
)
def test_the_least_of_machine_and_group_is_free(machine, folder, names, values, free):
    group(machine / folder, names, values)
    assert room() == free


def test_where_the_system_says_nothing_nothing_is_refused(machine):
    (machine / "meminfo").write_text("what?")
    assert room() is None
    check_room(1 << 60, "frames", "take fewer")
    (machine / "meminfo").unlink()
    assert room() is None


def test_what_does_not_fit_is_refused_before_it_is_taken(machine):
    check_room(4 << 20, "frames", "take fewer")
    with pytest.raises(MemoryError, match=r"8 frames take 2\.0 GiB, and 0\.0 GiB are free"):
        check_room(2 << 30, "8 frames", "take fewer")


def test_frames_are_refused_before_there_is_an_array_of_them(machine, tmp_path):
    path = write(tmp_path / "video.mp4", np.zeros((4, 64, 96, 3), np.uint8), fps=2)
    near = Sampling(isolated=False)
    indices = near.candidates(probe(path, isolated=False))
    assert len(near.read(path, indices)[0]) == 4
    (machine / "meminfo").write_text("MemAvailable: 70 kB")
    with pytest.raises(MemoryError, match=r"4 frames of 96 x 64 .* GiB.*frames, fps or keep"):
        near.read(path, indices)
