"""A question that cannot be asked costs no other its answer, and a few right ones are no certainty."""

from __future__ import annotations

from functools import cache

import pytest

from tests.video.batch.videos import (
    FEW,
    clips,
    question,
    rows,
    timeless,
)
from vtc.video.batch import Answerer, Group, Job
from vtc.video.batch.prompts import Prompts
from vtc.video.batch.summary import Tally


@cache
def answerer(name="tiny-qwen"):
    return Answerer(Job(model=name, dtype="float32", **FEW))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"question": "<|video_pad|> what?"}, "holds '<|video_pad|>'"),
        ({"system": "see <|image_pad|>"}, "holds '<|image_pad|>'"),
        ({"choices": ("red", "blue"), "answer": "green"}, "answer='green' is none of choices"),
    ],
)
def test_a_bad_question_is_one_error(tmp_path, changed, match, place):
    clips(tmp_path, 1)
    asked = [question(row, tmp_path) for row in rows(1, 3)]
    want = timeless(answerer().answer(Group(tuple(asked))))
    asked[place] = question(rows(1, 3)[place], tmp_path, **changed)
    found = {row["id"]: row for row in timeless(answerer().answer(Group(tuple(asked))))}
    for i, row in enumerate(want):
        assert found[row["id"]] == row or i == place
    bad = found[want[place]["id"]]
    assert match in bad["error"]
    assert bad.get("correct") is (None if "choices" in changed else False)


def test_llavas_own_placeholder_is_refused(tmp_path):
    clips(tmp_path, 1)
    asked = [question(row, tmp_path) for row in rows(1, 3)]
    asked[1] = question(rows(1, 3)[1], tmp_path, question="<image>\nwhat?")
    errors = [row["error"] for row in answerer("tiny-llava").answer(Group(tuple(asked)))]
    assert sorted(error is None for error in errors) == [False, True, True]


def test_what_breaks_a_model_at_one_question_breaks_no_other(tmp_path, monkeypatch):
    clips(tmp_path, 1)
    asked = [question(row, tmp_path) for row in rows(1, 4)]
    want = list(timeless(answerer().answer(Group(tuple(asked)))))
    whole = Prompts.of.__func__

    def of(cls, processor, made, questions, medium, inputs):
        if asked[2].question in questions:
            raise RuntimeError("no such token")
        return whole(cls, processor, made, questions, medium, inputs)

    monkeypatch.setattr(Prompts, "of", classmethod(of))
    found = list(timeless(answerer().answer(Group(tuple(asked)))))
    assert found[2]["error"] == "RuntimeError: no such token"
    assert [row for i, row in enumerate(found) if i != 2] == [row for i, row in enumerate(want) if i != 2]


def test_three_wrong_answers_are_no_certainty():
    tally = Tally({"a": "1", "b": "1", "c": "2"})
    for name in "abc":
        tally.add({"id": name, "error": "ValueError", "correct": False})
    found = tally.summary(fresh=3, seconds=1.0).accuracy
    assert (found.mean, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(0.6576, abs=1e-3)  # Wilson's of none of two
