"""Recipes that look at the question: a medium is encoded once, and each question is answered as by itself."""

from __future__ import annotations

import pytest

from tests.test_encoded import counted
from tests.video.batch.films import FEW, clips, question, rows
from vtc.video.batch import Answerer, Group, Job

EACH = 4


@pytest.mark.parametrize("recipe", ["video-question", "layerwise"])
def test_a_film_is_encoded_once_for_all_questions(tmp_path, recipe):
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


def test_an_error_is_not_right_and_was_not_timed(tmp_path):
    answerer = Answerer(Job(**FEW))
    known = {"id": "a", "video": "gone.mp4", "question": "what?", "answer": "x"}
    first, second = answerer.answer(
        Group((question(known, tmp_path), question({**known, "id": "b"}, tmp_path, answer=None)))
    )
    assert first["correct"] is False
    assert "correct" not in second
    assert set(first["seconds"].values()) == {None}
