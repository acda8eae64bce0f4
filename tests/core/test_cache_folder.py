"""Folders of the cache: whole or not there, whoever is killed and however many make them at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vtc.core.cache_folder import DRAFT, REPLACED, cache_folder, fault, make_folder, manifest, size_of


@pytest.mark.parametrize(
    ("set_to", "expected"),
    [
        ({"VTC_CACHE": "/mnt/big"}, "/mnt/big"),
        ({"XDG_CACHE_HOME": "/mnt/xdg"}, "/mnt/xdg/vtc"),
        ({"XDG_CACHE_HOME": "relative"}, "~/.cache/vtc"),
        ({}, "~/.cache/vtc"),
    ],
)
def test_the_cache_lies_where_the_environment_says(monkeypatch, set_to, expected):
    for name in ("VTC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected).expanduser()


def test_a_home_that_cannot_be_found_names_the_variable(monkeypatch):
    monkeypatch.setenv("VTC_CACHE", "~nobody-at-all/x")
    with pytest.raises(ValueError, match=r"cannot be found .*set VTC_CACHE"):
        cache_folder()


def write(text: str, *, fails: BaseException | None = None) -> Callable[[Path], dict[str, str]]:
    """What fills a folder with a file `content`."""

    def fill(draft: Path) -> dict[str, str]:
        (draft / "content").write_text(text)
        if fails is not None:
            raise fails
        return {"source": text}

    return fill


def inside(folder: Path) -> list[str]:
    """What lies there beside locks, which are never removed."""
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))


def test_a_folder_is_made_once_with_a_list_of_its_files(tmp_path):
    place = tmp_path / "models" / "one"
    assert fault(place) == f"is not in {place.parent}"
    assert make_folder(place, write("a")) == place
    assert make_folder(place, write("b")) == place
    assert (place / "content").read_text() == "a"
    assert fault(place) is None
    made = manifest(place)
    assert (made["source"], list(made["files"])) == ("a", ["content"])
    assert inside(place.parent) == ["one"]
    assert size_of(place) == sum(path.stat().st_size for path in place.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [True, False])
def test_an_error_leaves_what_was_there(tmp_path, error, there):
    place = tmp_path / "one"
    if there:
        make_folder(place, write("a"))
    with pytest.raises(type(error)):
        make_folder(place, write("b", fails=error), overwrite=True)
    assert inside(tmp_path) == (["one"] if there else [])
    assert not there or (place / "content").read_text() == "a"


def test_what_is_overwritten_stays_until_the_new_one_is_whole(tmp_path):
    place = make_folder(tmp_path / "one", write("a"))

    def fill(draft: Path) -> dict[str, str]:
        assert (place / "content").read_text() == "a"
        return write("b")(draft)

    make_folder(place, fill, overwrite=True)
    assert (place / "content").read_text() == "b"
    assert inside(tmp_path) == ["one"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch):
    place = make_folder(tmp_path / "one", write("a"))
    stock = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name.endswith(DRAFT):
            raise PermissionError(13, "Permission denied")
        return stock(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(PermissionError):
        make_folder(place, write("b"), overwrite=True)
    assert (place / "content").read_text() == "a"
    assert inside(tmp_path) == ["one"]


DAMAGES = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "a bit": lambda file: file.write_bytes(b"b" + file.read_bytes()[1:]),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["content", "vtc.json"])
def test_damage_is_found_and_mended(tmp_path, damage, name):
    place = make_folder(tmp_path / "one", write("aaa"))
    damage(place / name)
    wrong = fault(place)
    assert wrong is not None
    assert wrong.startswith(f"in {place} is damaged (")
    make_folder(place, write("aaa"))
    assert fault(place) is None
    assert (place / "content").read_text() == "aaa"


def test_a_copy_is_whole_though_its_times_are_others(tmp_path):
    place = make_folder(tmp_path / "one", write("a"))
    os.utime(place / "content", (1, 1))
    assert fault(place) is None


KILLED = """
import os, signal, sys
from pathlib import Path
from vtc.core.cache_folder import make_folder

def fill(draft):
    (draft / "content").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

make_folder(Path(sys.argv[1]), fill, overwrite=True)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path):
    place = tmp_path / "one"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert inside(tmp_path) == [f"one{DRAFT}"]
    make_folder(place, write("a"))
    assert inside(tmp_path) == ["one"]


def test_a_folder_that_had_given_way_when_its_process_was_killed_comes_back(tmp_path):
    place = make_folder(tmp_path / "one", write("a"))
    place.rename(place.with_name(f"one{REPLACED}"))
    make_folder(place, write("b"))
    assert (place / "content").read_text() == "a"
    assert inside(tmp_path) == ["one"]


def test_of_several_at_once_one_makes_it_and_the_others_wait(tmp_path):
    place, made, waited = tmp_path / "one", [], []
    begun = threading.Event()

    def fill(draft: Path) -> dict[str, str]:
        made.append(1)
        begun.set()
        for _ in range(500):
            if len(waited) == 3:
                break
            time.sleep(0.01)
        return write("a")(draft)

    def first() -> None:
        make_folder(place, fill)

    def later() -> None:
        begun.wait()
        make_folder(place, fill, on_wait=waited.append)

    threads = [threading.Thread(target=one) for one in (first, later, later, later)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(waited) == 3
    assert all("another process" in why for why in waited)
    assert inside(tmp_path) == ["one"]


def test_a_folder_that_cannot_be_written_names_the_variable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="set VTC_CACHE to a folder that can"):
        make_folder(tmp_path / "file" / "one", write("a"))


def test_a_process_that_never_ends_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("vtc.core.cache_folder.PATIENCE", 0.05)
    place = tmp_path / "one"

    def fill(draft: Path) -> dict[str, str]:
        with pytest.raises(TimeoutError, match="another process has been making"):
            make_folder(place, write("b"))
        return write("a")(draft)

    make_folder(place, fill)
    assert (place / "content").read_text() == "a"
