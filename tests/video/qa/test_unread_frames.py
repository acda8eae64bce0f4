"""What a call saves is counted against all frames that were to be looked at, read or not."""

from __future__ import annotations

import pytest

from vtc.embedded.video import Video
from vtc.inference.asking import prompt, report_on
from vtc.inference.loading import load
from vtc.recipes.named import recipe
from vtc.video import ask
from vtc.video.reading.sampling import Sampling


@pytest.fixture(scope="module")
def tiny():
    return load("tiny-qwen", device="cpu")


def test_an_answer_and_a_wrapped_model_count_against_one_number(tiny, tmp_path):
    model, processor = tiny
    path = Video(5).save(tmp_path / "a.mp4")
    chosen = recipe("video")
    found = ask(model, processor, path, "what color is the star?", chosen, max_new_tokens=2)
    sampling = Sampling()
    frames, _ = sampling.read(path, sampling.candidates(sampling.probe(path)))
    whole = report_on(model, prompt(model, processor, frames, "what color is the star?"), chosen)
    report = found.report
    assert report.unread > 0
    assert f"{report.unread} of frames that were not read" in str(report)
    for name in ("before", "after", "prompt_before", "prompt_after", "prefill_flops_before", "prefill_flops_after"):
        assert getattr(report, name) == getattr(whole, name), name
    assert report.bytes_saved == whole.bytes_saved
    assert found.calls[0].tokens_full == whole.before
    assert report.to_dict()["unread"] == report.unread


def test_where_all_frames_are_read_nothing_is_added(tiny, tmp_path):
    model, processor = tiny
    path = Video(5).save(tmp_path / "a.mp4")
    report = ask(model, processor, path, "what color is the star?", "kcenter", keep=0.5, max_new_tokens=2).report
    assert report.unread == 0
    assert "not read" not in str(report)
