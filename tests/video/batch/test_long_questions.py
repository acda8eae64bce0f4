"""Questions of very different lengths about one medium, and prompts that are too long for the model."""

from __future__ import annotations

import pytest
import torch

from tests.video.batch.videos import (
    FEW,
    clips,
    question,
    read,
    rows,
    save,
    timeless,
)
from vtc.recipes.named import recipe
from vtc.video import answer_batch
from vtc.video.batch import (
    Answerer,
    Job,
    answerer,
    grouped,
)
from vtc.video.batch.alike import (
    BATCH_TOKENS,
    SHORT,
    alike,
    size_class,
)
from vtc.video.batch.context import PromptLimits

LONG = "the star is red . " * 150 + "where is the yellow object?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("clips")
    clips(made, 1)
    return made


def mixed(count=5):
    """Short questions with a long one among them."""
    listed = rows(1, count)
    listed[1] = {**listed[1], "question": LONG}
    return listed


@pytest.fixture
def calls(monkeypatch):
    """Ids that each call of the model was given, its padding included."""
    seen, whole = [], answerer.go_on

    def noted(model, processor, prompts, prefix, rows, longest):
        seen.append([len(prompts.tails[i]) for i in rows])
        return whole(model, processor, prompts, prefix, rows, longest)

    monkeypatch.setattr(answerer, "go_on", noted)
    return seen


def test_a_long_question_is_asked_apart_and_all_answers_are_as_before(folder, tmp_path, calls):
    out = tmp_path / "a.jsonl"
    answer_batch(save(folder / "q.jsonl", mixed()), out, **FEW)
    assert [len(call) for call in calls] == [4, 1]
    assert max(calls[0]) <= SHORT < calls[1][0]
    answer_batch(folder / "q.jsonl", tmp_path / "single.jsonl", batch=1, **FEW)

    def by_id(path):
        return sorted(timeless(read(path)), key=lambda row: row["id"])

    assert by_id(out) == by_id(tmp_path / "single.jsonl")


@pytest.mark.parametrize(
    ("lengths", "alone", "count"),
    [
        ([20, 60, 12], "000", 3),
        ([20, SHORT + 1], "00", 1),
        ([100, 120, 190], "000", 2),
        ([20, 20, 20], "010", 1),
        ([20, 20, 20], "100", 1),
        ([20, 20, 20], "001", 2),
        ([BATCH_TOKENS // 4] * 9, "0" * 9, 4),
        ([BATCH_TOKENS * 2] * 2, "00", 1),
    ],
)
def test_which_go_on_together(lengths, alone, count):
    assert alike(lengths, [flag == "1" for flag in alone]) == count


def test_of_one_class_none_is_padded_to_more_than_twice_its_length():
    by_class = {}
    for length in range(SHORT + 1, 5000):
        by_class.setdefault(size_class(length), []).append(length)
    assert all(some[-1] < 2 * some[0] for some in by_class.values())
    assert {size_class(length) for length in range(SHORT + 1)} == {0}


@pytest.mark.parametrize("name", ["kcenter", "fastv"])
def test_what_the_model_cannot_take_is_an_error_of_its_row_and_never_run(folder, tmp_path, monkeypatch, name):
    listed = [*mixed(4), {**rows(1, 1)[0], "id": "huge", "question": "the star is red . " * 2000}]
    longest, whole = [], torch.nn.Embedding.forward

    def noted(self, ids):
        longest.append(ids.shape[-1])
        return whole(self, ids)

    monkeypatch.setattr(torch.nn.Embedding, "forward", noted)
    out = tmp_path / "a.jsonl"
    answer_batch(save(folder / "h.jsonl", listed[::-1]), out, recipe=name, **FEW)
    found = {row["id"]: row for row in read(out)}
    assert found["huge"]["error"].startswith("ValueError: the prompt has 1")
    assert "; the model takes 8192 (max_position_embeddings)" in found["huge"]["error"]
    assert [row["error"] for name, row in found.items() if name != "huge"] == [None] * 4
    assert max(longest) < 8192


def test_a_prompt_may_be_bounded_and_the_bound_be_raised(folder, tmp_path):
    path, out = save(folder / "m.jsonl", mixed()), tmp_path / "a.jsonl"
    assert answer_batch(path, out, max_prompt=300, **FEW).errors == {"ValueError": 1}
    error = next(row["error"] for row in read(out) if row["error"])
    assert "max_prompt=300" in error
    again = answer_batch(path, out, max_prompt=3000, retry=True, **FEW)
    assert (again.fresh, again.errors) == (1, {})


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_bound_that_is_none_is_refused(value):
    with pytest.raises((TypeError, ValueError), match="max_prompt="):
        Job(max_prompt=value)


def test_only_what_is_kept_takes_room_where_tokens_have_rows_and_columns():
    quarter = recipe("kcenter", keep=0.25)
    assert PromptLimits(100, grid=True).refusal(40, 100, quarter) is None
    assert PromptLimits(100, grid=True).refusal(75, 100, quarter) is not None
    assert PromptLimits(100).refusal(40, 100, quarter) is not None
    assert PromptLimits(100).refusal(40, 59, None) is None
    assert PromptLimits(100).refusal(40, 60, None) is not None
    assert PromptLimits(None).refusal(10**9, 60, None) is None


def test_an_answer_ends_where_the_context_does():
    assert PromptLimits(100).longest(30, 60, None, 64) == 10
    assert PromptLimits(100).longest(30, 60, None, 4) == 4
    assert PromptLimits(100, grid=True).longest(30, 60, recipe("kcenter", keep=0.5), 64) == 40
    assert PromptLimits(None).longest(30, 60, None, 10**9) == 10**9


def test_a_medium_that_alone_is_too_large_is_an_error_of_all_its_rows(folder, monkeypatch):
    one = Answerer(Job(max_prompt=50, **FEW))
    monkeypatch.setattr(answerer, "read_prefix", lambda *given: pytest.fail("the model was run"))
    found = list(one.answer(grouped([question(row, folder) for row in rows(1, 3)])[0]))
    assert [("max_prompt=50" in row["error"]) for row in found] == [True] * 3


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e30, True])
def test_a_timeout_that_no_clock_counts_is_refused(timeout):
    with pytest.raises((TypeError, ValueError), match="timeout="):
        Job(timeout=timeout)


def test_more_workers_than_media_are_as_many_as_media(folder, tmp_path):
    summary = answer_batch(save(folder / "w.jsonl", rows(1, 2)), tmp_path / "a.jsonl", workers=10**30, **FEW)
    assert (summary.answered, summary.exit_code) == (2, 0)
