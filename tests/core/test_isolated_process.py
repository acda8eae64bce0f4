"""Another Python, started from a folder that nobody vouches for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vtc.core import isolated_process
from vtc.core.isolated_process import command, import_path

NAMES = ("json", "numpy", "av", "typing", "site", "sitecustomize", "usercustomize", "pickle", "socket", "vtc/__init__")
PRINTED = "json, sys; print(json.dumps([sys.path, sys.argv, sys.flags.utf8_mode]))"


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> Path:
    """The current folder, whose modules leave a mark when they are run."""
    folder = tmp_path / "downloads"
    (folder / "vtc").mkdir(parents=True)
    for name in NAMES:
        (folder / f"{name}.py").write_text("open('ran', 'w').close()\nraise SystemExit('code of the folder')\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def shown(monkeypatch) -> None:
    """Children that print what they were given, in place of doing anything."""
    monkeypatch.setattr(
        isolated_process,
        "START",
        isolated_process.START.replace("from {module} import main; main()", "import {module}"),
    )


def started(*arguments: str, module: str = PRINTED) -> list[object]:
    done = subprocess.run(command(module, *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_folder_would_be_imported_from(hostile):
    """Control: by the way in which `multiprocessing` starts Python."""
    done = subprocess.run([sys.executable, "-c", "import json"], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "code of the folder"
    assert (hostile / "ran").exists()


@pytest.mark.parametrize("first", [[], [""], ["."], ["downloads"], ["", ".", "lib/../"]], ids=str)
def test_nothing_of_the_current_folder_is_imported(hostile, shown, monkeypatch, first):
    monkeypatch.setattr(sys, "path", [*first, *sys.path])
    path, arguments, utf8 = started("7", module="numpy, vtc.video.reading.worker, " + PRINTED)
    assert not (hostile / "ran").exists()
    assert path == [entry for entry in sys.path if os.path.isabs(entry)]
    assert (arguments, utf8) == (["-c", "7"], sys.flags.utf8_mode)


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME"])
def test_variables_that_came_later_are_not_read(hostile, shown, monkeypatch, name):
    monkeypatch.setenv(name, str(hostile / "json.py" if name == "PYTHONSTARTUP" else hostile))
    started()
    assert not (hostile / "ran").exists()


def test_entries_that_are_no_text_are_left_out_as_imports_ignore_them(hostile, shown, monkeypatch):
    monkeypatch.setattr(sys, "path", [hostile, *sys.path, None, b"/x"])
    assert started()[0] == [entry for entry in sys.path if isinstance(entry, str)]


def test_where_the_package_was_imported_by_a_relative_entry_its_folder_comes_last(monkeypatch, tmp_path):
    there = str(tmp_path)
    monkeypatch.setattr(sys, "path", ["", there])
    home = str(Path(isolated_process.__file__).parents[2])
    assert import_path() == [there, home]
    monkeypatch.setattr(sys, "path", ["", home, there])
    assert import_path() == [home, there]


def test_no_python_to_start(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(OSError, match=r"sys\.executable names no Python"):
        command("json")
