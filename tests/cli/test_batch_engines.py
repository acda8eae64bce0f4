"""`vtc batch` by an endpoint or by vLLM: options, what is refused, and what is made of rows that tell no tokens."""

from __future__ import annotations

import importlib.util
import json
import shutil

import pytest

from tests.cli.test_main import vtc_command
from tests.video.batch.servers import Fake, serving
from vtc.embedded.samples import samples
from vtc.video.batch.parquet import read_parquet


@pytest.fixture
def asked(tmp_path):
    """A file of questions about packaged images."""
    for i, sample in enumerate(samples()[:2]):
        shutil.copy(sample.path, tmp_path / f"{i}.png")
    path = tmp_path / "questions.jsonl"
    lines = [{"id": i, "image": f"{i}.png", "question": f"what {i}?", "answer": "1 of 224x224"} for i in range(2)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_endpoint_answers_and_its_options_reach_it(asked, tmp_path):
    out, fake = tmp_path / "a.jsonl", Fake(wait=0.1)
    arguments = '{"max_completion_tokens": 5, "max_tokens": null}'
    with serving(fake) as url:
        result = vtc_command(
            *("batch", asked, "--out", out, "--endpoint", url, "--keep", "0.25", "--concurrency", "2"),
            *("--engine-args", arguments, "--request-timeout", "20", "--video-as", "frames"),
        )
        assert result.exit_code == 0, result.error
        assert "2 rows, 2 answered" in result.text
        assert "visual tokens: 50 of 200, 75% saved" in result.text
        body = fake.bodies[-1]
        assert (body["max_completion_tokens"], "max_tokens" in body) == (5, False)
        # Another key, port or place of the same name goes on; another setting does not.
        again = vtc_command("batch", asked, "--out", out, "--endpoint", url, "--keep", "0.5")
        assert again.exit_code == 2
        assert "--overwrite" in again.error
    gone = vtc_command("batch", asked, "--out", tmp_path / "b.jsonl", "--endpoint", url)
    assert gone.exit_code == 2
    assert "no server answers" in gone.error
    assert "Traceback" not in gone.error


def test_rows_without_tokens_go_through_report_merge_and_parquet(asked, tmp_path):
    with serving(Fake(tells=False)) as url:
        for out in ("a.jsonl", "a.parquet"):
            result = vtc_command("batch", asked, "--out", tmp_path / out, "--endpoint", url)
            assert result.exit_code == 0, result.error
            assert "visual tokens: not known" in result.text
    found = {row["id"]: row for row in rows(tmp_path / "a.jsonl")}
    assert all(row["tokens_full"] is row["tokens_kept"] is None for row in found.values())
    tabled = {row["id"]: row for row in read_parquet(tmp_path / "a.parquet")}
    for name, row in found.items():
        assert {**tabled[name], "seconds": None} == {**row, "seconds": None}
    page = tmp_path / "a.html"
    assert vtc_command("report", tmp_path / "a.jsonl", "--out", page, "--questions", asked).exit_code == 0
    text = page.read_text()
    assert "server&#39;s own" in text or "server's own" in text
    assert "None of None" not in text
    merged = vtc_command("merge", tmp_path / "a.jsonl", "--out", tmp_path / "m.jsonl", "--questions", asked)
    assert merged.exit_code == 0, merged.error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "ray", "--endpoint", "http://h/v1"], "--endpoint goes with --engine vllm or with an endpoint"),
        (["--engine", "ray", "--concurrency", "3"], "--concurrency goes with"),
        (["--engine", "fast"], "local, vllm, ray"),
        (["--endpoint", "h:8000"], "http://localhost:8000/v1"),
        (["--endpoint", "http://h/v1", "--device", "cpu"], "leave --device out"),
        (["--endpoint", "http://h/v1", "--plan", "decompose"], "asked once"),
        (["--endpoint", "http://h/v1", "--engine-args", "{"], "expected a JSON object"),
        (["--endpoint", "http://h/v1", "--engine-args", "[1]"], "expected a JSON object"),
        (["--engine-args", "{}", "--concurrency", "3"], "leave it out"),
        (["--engine-args", '{"a": 1}'], "--engine vllm"),
        (["--video-as", "video"], "--endpoint URL"),
        (["--request-timeout", "3"], "is of --endpoint"),
    ],
)
def test_options_that_do_not_go_together_are_refused(asked, tmp_path, options, message):
    result = vtc_command("batch", asked, "--out", tmp_path / "a.jsonl", *options)
    assert result.exit_code == 2
    assert message in result.error
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_remedy_is_said_before_anything_is_read(tmp_path):
    result = vtc_command("batch", tmp_path / "gone.jsonl", "--out", tmp_path / "a.jsonl", "--engine", "vllm")
    assert result.exit_code == 2
    assert "pip install 'vtc-vlm[vllm]'" in result.error
    assert "gone.jsonl" not in result.error
