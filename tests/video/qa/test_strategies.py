"""Plans: what they ask, in which order, of which stretch, and that every call is counted."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.video.videos import write
from vtc.embedded.video import VALIDATION, Video
from vtc.inference.loading import load
from vtc.video import Sampling, ask
from vtc.video.qa.strategies import (
    STRATEGIES,
    Decompose,
    Direct,
    SegmentThought,
    strategy,
)
from vtc.video.qa.strategies.decompose import sub_questions

LOSSLESS = {"codec": "libx264rgb", "pixels": "rgb24", "options": {"qp": "0"}}
NEAR = Sampling(isolated=False)
VIDEO = next(
    video for video in map(Video, range(VALIDATION, VALIDATION + 99)) if video.kind == "needle" and video.frames == 16
)


class Scripted:
    """An asker that says what it is told to say, and notes what it was asked."""

    def __init__(self, *answers: str, units: int = 8) -> None:
        self.units, self.said, self.asked = units, list(answers), []

    def ask(self, prompt, purpose, *, units=None, max_new_tokens=None):
        self.asked.append((purpose, prompt, units))
        return self.said.pop(0)

    def ask_blind(self, prompt, purpose, *, max_new_tokens=None):
        return self.ask(prompt, purpose, units="blind")


@cache
def loaded(name: str = "tiny-qwen"):
    return load(name)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "video.mp4", VIDEO.pixels(96), fps=2, **LOSSLESS)


def test_direct_asks_once():
    asker = Scripted("red")
    assert Direct().run(asker, "which color?") == "red"
    assert asker.asked == [("answer", "which color?", None)]


def test_decompose_asks_the_parts_and_then_the_whole_with_what_they_say():
    asker = Scripted(
        "1. Who is there?\n2) Where?\nnot a question\n- who is there?\n* Why so?", "a cat", "home", "yes", "z"
    )
    assert Decompose().run(asker, "Why so?") == "yes"
    purposes = [purpose for purpose, _, _ in asker.asked]
    assert purposes == ["split the question", "sub-question", "sub-question", "answer"]
    assert asker.asked[0][2] == "blind"
    assert "Why so?" in asker.asked[0][1]
    assert [prompt for _, prompt, _ in asker.asked[1:3]] == ["Who is there?", "Where?"]
    assert "- Who is there? a cat\n- Where? home\n" in asker.asked[3][1]
    assert asker.asked[3][1].endswith("\nWhy so?")


def test_decompose_asks_no_more_than_it_may():
    asker = Scripted("a?\nb?\nc?", "1", "2", "answer")
    assert Decompose(most=2).run(asker, "q?") == "answer"
    assert len(asker.asked) == 4


@pytest.mark.parametrize("written", ["", "no idea", "Q ?", "what? is it"])
def test_a_model_that_writes_no_list_is_asked_directly(written):
    asker = Scripted(written, "answer")
    assert Decompose().run(asker, "q?") == "answer"
    assert asker.asked[-1] == ("answer", "q?", None)


def test_bullets_of_lists_are_no_part_of_questions():
    written = "1. A one?\n 2) B 2?\n(3) C?\n- D-d?\n• E?\n12: F?\n2nd G?\n\nH\nA  ONE ?"
    assert sub_questions(written, "x") == ["A one?", "B 2?", "C?", "D-d?", "E?", "F?", "2nd G?"]


@pytest.mark.parametrize(("units", "wanted"), [(8, [(0, 2), (2, 5), (5, 8)]), (2, [(0, 1), (1, 2)]), (1, [(0, 1)])])
def test_segments_cover_the_video_and_are_described_before_the_answer(units, wanted):
    asker = Scripted(*map(str, range(len(wanted))), "answer", units=units)
    assert SegmentThought().run(asker, "q?") == "answer"
    assert [stretch for _, _, stretch in asker.asked] == [*wanted, None]
    assert all("q?" in prompt for _, prompt, _ in asker.asked)
    assert asker.asked[-1][1].count("- part") == len(wanted)
    assert "part 1 of" in asker.asked[-1][1]


def test_plans_are_found_by_name():
    assert strategy("decompose") == Decompose()
    assert strategy(SegmentThought(parts=2)) == SegmentThought(parts=2)
    for name in STRATEGIES:
        assert strategy(name).name == name
        assert strategy(name).calls
    with pytest.raises(ValueError, match="decompose"):
        strategy("decompos")
    with pytest.raises(TypeError, match="strategy=3"):
        strategy(3)
    for make in (lambda: Decompose(most=0), lambda: SegmentThought(parts=True), lambda: Decompose(longest="9")):
        with pytest.raises((TypeError, ValueError), match="expected an int"):
            make()


@pytest.mark.parametrize("recipe", ["video", "clip-budget", "uniform"])
def test_every_call_is_counted_and_the_model_is_left_as_it_was(path, recipe):
    model, processor = loaded()
    told = []
    said = ask(
        model,
        processor,
        path,
        "what flashes?",
        recipe,
        sampling=NEAR,
        strategy=SegmentThought(longest=4),
        on_call=told.append,
    )
    parts = min(3, len(said.prepared.chosen))
    assert [call.purpose for call in said.calls] == [f"describe part {i + 1} of {parts}" for i in range(parts)] + [
        "answer"
    ]
    assert tuple(told) == said.calls
    assert said.text == said.calls[-1].text
    assert said.report is said.calls[-1].report
    assert all(call.seconds > 0 for call in said.calls)
    times = [(call.start, call.end) for call in said.calls]
    assert times[0][0] == times[-1][0]
    assert [end for _, end in times[: parts - 1]] == [start for start, _ in times[1:parts]]
    if said.report is not None:
        assert said.tokens == sum(call.report.after for call in said.calls)
        apart = sum(call.report.after for call in said.calls[:-1])
        assert abs(apart - said.report.after) <= parts
    assert str(len(said.calls)) in str(said)
    assert not hasattr(model, "vtc")


def test_a_plan_of_one_call_is_a_plain_question(path):
    model, processor = loaded()
    told = []
    plain = ask(model, processor, path, "what flashes?", sampling=NEAR, progress=lambda *how: told.append(how))
    assert {phase for phase, _, _ in told} == {"look", "read", "process"}
    assert all(done <= total for _, done, total in told)
    assert len(plain.calls) == 1
    assert plain.calls[0].prompt == "what flashes?"
    again = ask(model, processor, path, "what flashes?", sampling=NEAR, strategy="decompose")
    # The tiny model writes no list: it is asked once blind, and then as it is without a strategy.
    assert (again.text, len(again.calls)) == (plain.text, 2)
    assert again.calls[0].report is None
    assert again.calls[0].start is None


def test_frames_of_a_stretch_are_those_of_the_file(path, monkeypatch):
    model, processor = loaded()
    seen = []
    own = type(processor).apply_chat_template

    def watching(self, conversation, **options):
        seen.append(conversation[0][0]["content"][0]["video"])
        return own(self, conversation, **options)

    monkeypatch.setattr(type(processor), "apply_chat_template", watching)
    ask(model, processor, path, "q?", "clip-budget", sampling=NEAR, strategy=SegmentThought(parts=2, longest=1))
    first, second, whole = seen[-3:]
    assert np.array_equal(whole, VIDEO.pixels(96))
    assert np.array_equal(np.concatenate([first, second]), whole)
    assert len(first) == len(second) == 8
