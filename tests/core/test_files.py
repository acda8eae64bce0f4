"""Files that are replaced as a whole or not at all, also by a process that is killed on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vtc.core import files
from vtc.core.files import on_disk, replace_text, replacing

KILLED = """
import os, signal, sys
from pathlib import Path
from vtc.core.files import replacing
with replacing(Path(sys.argv[1])) as draft:
    draft.write_text("half of")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("first", "second"):
        with replacing(path) as draft:
            draft.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    replace_text(path, "ü\u2028\n")
    assert path.read_bytes() == "ü\u2028\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        replace_text(path, "half \ud800")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing was written
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_what_was_there_and_the_next_writer_begins_from_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 2
    with replacing(path) as draft, draft.open("a") as file:
        file.write("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_of_a_link_the_file_that_it_leads_to_is_replaced(tmp_path):
    link, home = tmp_path / "link", tmp_path / "folder" / "home"
    home.parent.mkdir()
    link.symlink_to(home)
    replace_text(link, "text")
    assert link.is_symlink()
    assert home.read_text() == "text"
    assert list(home.parent.iterdir()) == [home]


def test_it_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    path, waited = tmp_path / "a.txt", []
    monkeypatch.setattr(files, "on_disk", lambda draft: waited.append((draft.read_text(), path.exists())))
    for fsync in (False, True):
        with replacing(path, fsync=fsync) as draft:
            draft.write_text("text")
        assert waited == [("text", False)] * fsync
        path.unlink()


def test_on_disk_passes_over_folders_without_it_and_nothing_else():
    on_disk(Path("/proc/self"))  # knows no fsync
    with pytest.raises(OSError, match="Invalid argument"):
        on_disk(Path("/proc/self/status"))
    with pytest.raises(FileNotFoundError):
        on_disk(Path("/proc/self/nothing"))
