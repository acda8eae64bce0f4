"""Recipes that look at the question: a medium is encoded once, and each question is answered as by itself."""

from __future__ import annotations

import pytest

from tests.reduction.test_feature_cache import counted
from tests.video.batch.videos import (
    FEW,
    clips,
    question,
    rows,
    timeless,
)
from vtc.reduction.feature_cache import _at_work
from vtc.video.batch import Answerer, Group, Job

EACH = 4


@pytest.mark.parametrize("recipe", ["video-question", "layerwise"])
def test_a_video_is_encoded_once_for_all_questions(tmp_path, recipe):
    clips(tmp_path, 1)
    answerer = Answerer(Job.of(recipe, dtype="float32", **FEW))
    asked = [question(row, tmp_path) for row in rows(1, EACH)]
    with counted(answerer.model) as calls:
        apart = [row for one in asked for row in answerer.answer(Group((one,)))]
    assert len(calls) == EACH
    with counted(answerer.model) as calls:
        together = list(answerer.answer(Group(tuple(asked))))
    assert len(calls) == 1
    assert [row["answer"] for row in together] == [row["answer"] for row in apart]
    assert [row["tokens_kept"] for row in together] == [row["tokens_kept"] for row in apart]
    assert len({row["answer"] for row in together}) > 1  # else any answer would do
    # What encoding took is shared among the questions, not told of the first.
    shares = [row["seconds"]["encode"] for row in together]
    assert 0 < max(shares) < 2 * min(shares)


def test_what_the_model_is_told_beforehand_and_whether_it_drops_anything_changes_nothing_of_that(tmp_path):
    clips(tmp_path, 1)
    asked = [
        question(row, tmp_path, system=system) for row, system in zip(rows(1, 3), (None, "yes", "no"), strict=True)
    ]
    for recipe in ("video", "video-question"):
        answerer = Answerer(Job.of(recipe, dtype="float32", **FEW))
        with counted(answerer.model) as calls:
            assert [row["error"] for row in answerer.answer(Group(tuple(asked)))] == [None] * 3
        assert len(calls) == 1
    whole = Answerer(Job.of("video-question", keep=1.0, dtype="float32", **FEW))
    with counted(whole.model) as calls:
        found = list(whole.answer(Group(tuple(question(row, tmp_path) for row in rows(1, 3)))))
    assert len(calls) == 1
    assert found[0]["tokens_kept"] == found[0]["tokens_full"]


def test_rows_of_two_answerers_are_drawn_in_turn(tmp_path):
    clips(tmp_path, 2)
    asked = [[question(row, tmp_path) for row in rows(2, 2) if row["video"] == f"{i}.mp4"] for i in range(2)]
    makers = [Answerer(Job.of("video-question", dtype="float32", **FEW)) for _ in range(2)]
    want = [list(one.answer(Group(tuple(some)))) for one, some in zip(makers, asked, strict=True)]
    taken = zip(*(one.answer(Group(tuple(some))) for one, some in zip(makers, asked, strict=True)), strict=True)
    turns = [list(rows) for rows in zip(*taken, strict=True)]
    assert [timeless(one) for one in turns] == [timeless(one) for one in want]
    assert _at_work.get() is None


def test_an_error_is_not_right_and_was_not_timed(tmp_path):
    answerer = Answerer(Job(**FEW))
    known = {"id": "a", "video": "gone.mp4", "question": "what?", "answer": "x"}
    first, second = answerer.answer(
        Group((question(known, tmp_path), question({**known, "id": "b"}, tmp_path, answer=None)))
    )
    assert first["correct"] is False
    assert "correct" not in second
    assert set(first["seconds"].values()) == {None}
