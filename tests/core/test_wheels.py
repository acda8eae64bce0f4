"""Wheels as data: by pip from the user's own index, checked, and never installed."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from tests.core.wheelhouse import build
from vtc.core import wheels
from vtc.core.wheels import FetchError, check_online, download, unpack


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A folder that is pip's only index."""
    folder = tmp_path / "house"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_a_wheel_is_fetched_and_one_folder_of_it_unpacked(house, out):
    wheel = build(house, "some-data", "1.0", {"some_data/a.txt": b"a", "some_data/b/c.txt": b"c", "other/d.txt": b"d"})
    folder = unpack(download(wheel, out), out, under="some_data")
    assert (folder / "a.txt").read_bytes() + (folder / "b/c.txt").read_bytes() == b"ac"
    assert not (out / "other").exists()


def test_another_file_of_that_name_is_refused_and_removed(house, out):
    wheel = replace(build(house, "some-data", "1.0", {"some_data/a.txt": b"a"}), sha256="0" * 64)
    with pytest.raises(FetchError, match=r"sha256 .*, expected 000000000000.*try again"):
        download(wheel, out)
    assert list(out.iterdir()) == []


def test_half_a_download_is_refused(house, out):
    wheel = build(house, "some-data", "1.0", {"some_data/a.txt": bytes(range(256)) * 99})
    path = next(house.iterdir())
    path.write_bytes(path.read_bytes()[: wheel.size // 2])
    with pytest.raises(FetchError, match="some-data"):
        download(wheel, out)


@pytest.mark.parametrize("version", ["2.0", "1.0"])
def test_an_index_without_the_wheel_is_named_with_the_requirement(house, out, version):
    wheel = replace(build(house, "some-data", "1.0", {"some_data/a.txt": b"a"}), version=version)
    if version == "1.0":
        next(house.iterdir()).unlink()
    with pytest.raises(FetchError, match=f"could not download some-data=={version}: .*[Nn]o matching distribution"):
        download(wheel, out)


def test_an_error_inside_pip_is_named_by_its_last_line(house, out, monkeypatch):
    text = "ERROR: Exception:\nTraceback (most recent call last):\n  ...\nOSError: [Errno 28] No space left on device\n"
    ended = subprocess.CompletedProcess([], 2, "", text)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: ended)
    with pytest.raises(FetchError, match=r"some-data==1\.0: OSError: \[Errno 28\] No space left on device$"):
        download(build(house, "some-data", "1.0", {}), out)


REFUSED = """WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError("refused")': /some-data/
ERROR: Could not find a version that satisfies the requirement some-data==1.0 (from versions: none)
ERROR: No matching distribution found for some-data==1.0
"""


def test_an_index_out_of_reach_is_not_called_one_without_the_wheel(house, out, monkeypatch):
    ended = subprocess.CompletedProcess([], 1, "", REFUSED)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: ended)
    message = r"index could not be reached for some-data==1\.0 \('NewConnectionError\(\"refused\"\)'\); PIP_INDEX_URL"
    with pytest.raises(FetchError, match=message):
        download(build(house, "some-data", "1.0", {}), out)


def test_nothing_is_fetched_where_the_environment_says_offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match=r"small-llava is not here, and HF_HUB_OFFLINE is set"):
        check_online("small-llava")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    check_online("small-llava")


def test_code_of_the_current_folder_does_not_run(house, out, tmp_path, monkeypatch):
    wheel = build(house, "some-data", "1.0", {"some_data/a.txt": b"a"})
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pip.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path / "here")
    download(wheel, out)
    assert not (tmp_path / "ran").exists()


def test_without_pip_the_remedy_is_named(house, out, monkeypatch):
    wheel = build(house, "some-data", "1.0", {"some_data/a.txt": b"a"})
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match="ensurepip"):
        download(wheel, out)


def test_an_index_that_is_silent_is_given_up(house, out, monkeypatch):
    def silent(*args, timeout, **options):
        raise subprocess.TimeoutExpired("pip", timeout)

    monkeypatch.setattr(subprocess, "run", silent)
    with pytest.raises(FetchError, match="within 900 s"):
        download(build(house, "some-data", "1.0", {}), out)


def test_a_wheel_without_the_folder_is_refused(house, out):
    wheel = build(house, "some-data", "1.0", {"some_data/a.txt": b"a"})
    with pytest.raises(FetchError, match="holds no data/"):
        unpack(download(wheel, out), out, under="data")
