"""Folders of the cache: whole or not there, whoever is killed and however many make them at once."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from vtc.core.cache_folder import DRAFT, FORGOTTEN, cache_folder, new_folder, size_of


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


def test_a_folder_appears_whole(tmp_path):
    place = tmp_path / "models" / "one"
    with new_folder(place) as draft:
        (draft / "weights").write_bytes(b"12345")
        assert not place.exists()
    assert (place / "weights").read_bytes() == b"12345"
    assert size_of(place) == 5
    assert os.listdir(place.parent) == ["one"]


def test_an_error_leaves_nothing_behind(tmp_path):
    def write() -> None:
        with new_folder(tmp_path / "one") as draft:
            (draft / "weights").write_bytes(b"123")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write()
    assert os.listdir(tmp_path) == []


def test_what_is_overwritten_stays_until_the_new_one_is_whole(tmp_path):
    place = tmp_path / "one"
    place.mkdir()
    (place / "old").touch()

    def write(fails: bool) -> None:
        with new_folder(place, overwrite=True) as draft:
            (draft / "new").touch()
            assert os.listdir(place) == ["old"]
            if fails:
                raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        write(fails=True)
    assert os.listdir(place) == ["old"]
    write(fails=False)
    assert os.listdir(place) == ["new"]
    assert os.listdir(tmp_path) == ["one"]


def test_of_several_at_once_the_first_stays(tmp_path):
    place, together = tmp_path / "one", threading.Barrier(4)

    def write(number: int) -> None:
        with new_folder(place) as draft:
            (draft / "number").write_text(str(number))
            together.wait()

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.listdir(tmp_path) == ["one"]
    assert (place / "number").read_text() in "0123"


def test_drafts_of_killed_processes_are_swept_up_and_those_of_running_ones_stay(tmp_path):
    old, young = tmp_path / f"another{DRAFT}old", tmp_path / f"one{DRAFT}young"
    for draft in (old, young):
        draft.mkdir()
    os.utime(old, (time.time() - 2 * FORGOTTEN,) * 2)
    with new_folder(tmp_path / "one"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["one", young.name]
