"""easy-VQA: fetched as pinned, asked in a fixed order, and only in words that a tiny model knows."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from tests.core.wheelhouse import build
from vtc.bench import easy_vqa
from vtc.bench.cases import read
from vtc.bench.config import BenchConfig
from vtc.bench.quality import run
from vtc.core.wheels import FetchError
from vtc.recipes.named import recipe

ASKED = [
    ["what is the red shape?", "circle", 0],
    ["is there not a red shape?", "no", 0],
    ["is there a teal shape?", "no", 1],
    ["what color is the circle?", "blue", 1],
]


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """The package, with four questions about two images, on pip's only index; an empty cache folder."""
    files = {"easy_vqa/data/test/questions.json": json.dumps(ASKED).encode()}
    for number, color in enumerate(("red", "blue")):
        content = io.BytesIO()
        Image.new("RGB", (64, 64), color).save(content, "png")
        files[f"easy_vqa/data/test/images/{number}.png"] = content.getvalue()
    (tmp_path / "house").mkdir()
    made = build(tmp_path / "house", "easy-vqa", "1.0", files)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "house"))
    monkeypatch.setenv("VTC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(easy_vqa, "WHEEL", made)
    return made


def test_its_questions_are_a_file_like_a_user_s_own(wheel):
    cases, unread = read(easy_vqa.fetch())
    assert unread == []
    assert sorted((c.question, c.answer, int(c.id.split("/")[0])) for c in cases) == sorted(map(tuple, ASKED))
    skills = {case.question: case.skill for case in cases}
    assert [skills[question] for question, *_ in ASKED] == ["shape", "negated", "exists", "color"]
    assert all(case.image().size == (64, 64) for case in cases)
    assert easy_vqa.fetch() == easy_vqa.place()


def test_another_file_than_the_pinned_one_leaves_nothing(wheel, monkeypatch):
    monkeypatch.setattr(easy_vqa, "WHEEL", replace(wheel, sha256="0" * 64))
    with pytest.raises(FetchError, match="sha256"):
        easy_vqa.fetch()
    assert not easy_vqa.place().parent.exists()


def test_offline_it_is_not_fetched(wheel, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match="--data easy-vqa is not here"):
        easy_vqa.fetch()


def test_a_damaged_one_is_fetched_again(wheel):
    found = easy_vqa.fetch()
    whole = found.read_text()
    found.write_text(whole.splitlines(keepends=True)[0])
    assert easy_vqa.fetch().read_text() == whole
    (found.parent / "images" / "0.png").unlink()
    easy_vqa.fetch()
    assert (found.parent / "images" / "0.png").is_file()


def test_a_tiny_model_is_asked_in_its_own_words(wheel):
    config = BenchConfig(("tiny-llava",), (recipe(),), data=easy_vqa.fetch())
    assert sorted(case.question for case in config.cases("tiny-llava")) == sorted(
        question for question, *_ in ASKED if "teal" not in question
    )
    assert config.words("tiny-llava") == (3, 4)
    assert config.words("small-llava") is None
    with pytest.raises(ValueError, match=r"--n 4: .* holds 3 questions in words that tiny-llava knows; leave --n out"):
        replace(config, n=4).cases("tiny-llava")
    cases, _ = read(easy_vqa.fetch())
    assert easy_vqa.in_words_of("small-llava", cases) == cases
    with pytest.raises(ValueError, match="knows the words of none"):
        easy_vqa.in_words_of("tiny-llava", [case for case in cases if "teal" in case.question])


def test_the_tables_say_what_its_authors_report(wheel, tmp_path):
    config = BenchConfig(("tiny-llava",), (recipe(),), (0.25,), text_alone=False, data=easy_vqa.fetch())
    outcome = run(config, tmp_path / "out", curve=False, draws=10)
    assert outcome.document["models"][0]["questions"] == 3
    assert "3 questions (3 of 4 are in words that it knows)" in (tmp_path / "out" / "quality.md").read_text()
    assert "easy-VQA's test split; its authors report 99.5 %" in (tmp_path / "out" / "quality.md").read_text()
