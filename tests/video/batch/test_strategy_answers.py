"""Questions of a batch that are asked by a strategy: answers, calls and tokens of rows, resumption and refusals."""

from __future__ import annotations

import json

import pytest

from tests.video.batch.videos import (
    FEW,
    clips,
    question,
    read,
    rows,
    save,
    timeless,
)
from vtc.inference.loading import load
from vtc.video import Sampling, answer_batch, ask
from vtc.video.batch import (
    Answerer,
    Job,
    fingerprint,
    grouped,
)
from vtc.video.batch.merge import merge
from vtc.video.batch.parquet import read_parquet

STRATEGIES = ("decompose", "segment-thought")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("clips")
    clips(made, 2)
    return made


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", ["tiny-qwen", "tiny-llava"])
def test_rows_are_what_one_question_at_a_time_is_answered(folder, tmp_path, strategy, model):
    listed = rows(2, 2)
    answer_batch(save(folder / "q.jsonl", listed), out := tmp_path / "a.jsonl", strategy=strategy, model=model, **FEW)
    network, processor = load(model)
    for row, asked in zip(read(out), listed, strict=True):
        want = ask(
            *(network, processor, folder / asked["video"], asked["question"]),
            sampling=Sampling(frames=FEW["frames"], isolated=False),
            strategy=strategy,
            max_new_tokens=FEW["max_new_tokens"],
        )
        assert (row["answer"], row["error"], row["plan"]) == (want.text, None, strategy)
        assert [call["text"] for call in row["calls"]] == [call.text for call in want.calls]
        assert [call["purpose"] for call in row["calls"]][-1] == "answer"
        assert row["tokens_kept"] == sum(call["tokens_kept"] for call in row["calls"]) == want.tokens
        assert 0 < row["tokens_kept"] < row["tokens_full"]
        assert row["seconds"]["prefill"] is None
        assert row["seconds"]["decode"] > 0


def test_a_plan_is_another_job_and_none_is_the_same_as_ever(folder, tmp_path):
    one = question(rows(1, 1)[0], folder)
    digits = {strategy: fingerprint(Job(strategy=strategy, **FEW), one) for strategy in ("direct", *STRATEGIES)}
    assert len(set(digits.values())) == 3
    assert digits["direct"] == fingerprint(Job(**FEW), one)
    path, out = save(folder / "p.jsonl", rows(1, 1)), tmp_path / "a.jsonl"
    answer_batch(path, out, **FEW)
    assert "plan" not in read(out)[0]
    with pytest.raises(ValueError, match=rf"out={out}: '\S+' was answered when model, recipe.*--overwrite"):
        answer_batch(path, out, strategy=STRATEGIES[0], **FEW)


def test_asked_to_stop_it_goes_on_behind_the_last_question(folder, tmp_path):
    path, out = save(folder / "s.jsonl", rows(2, 3)), tmp_path / "a.jsonl"
    fields = dict(strategy="segment-thought", workers=1, **FEW)
    with_system_prompt = []
    first = answer_batch(
        path,
        out,
        progress=lambda *done: with_system_prompt.append(done),
        stop=lambda: len(with_system_prompt) > 2,
        **fields,
    )
    assert (first.stopped, first.fresh) == ("interrupted", 2)
    answer_batch(path, out, **fields)
    answer_batch(path, tmp_path / "whole.jsonl", **fields)

    def calmed(listed):
        return [{**row, "calls": timeless(row["calls"])} for row in timeless(listed)]

    assert calmed(read(out)) == calmed(read(tmp_path / "whole.jsonl"))


def test_choices_and_what_is_told_beforehand_reach_every_plan(folder):
    one = Answerer(Job(strategy="segment-thought", dtype="float32", **FEW))
    asked = question(rows(1, 1)[0], folder, choices=("red", "blue"), answer="red")
    row = next(iter(one.answer(grouped([asked])[0])))
    assert row["error"] is None
    assert {"choice", "correct"} <= row.keys()


def test_a_image_is_an_error_of_its_row(folder, tmp_path):
    from PIL import Image

    Image.new("RGB", (96, 96), "red").save(folder / "a.png")
    listed = [{"id": "p", "image": "a.png", "question": "what color is the star?"}, *rows(1, 1)]
    summary = answer_batch(save(folder / "i.jsonl", listed), out := tmp_path / "a.jsonl", strategy="decompose", **FEW)
    assert summary.errors == {"ValueError": 1}
    assert "strategy='decompose' asks about parts of a video, and this is an image" in read(out)[0]["error"]


def test_an_unknown_plan_is_refused():
    with pytest.raises(ValueError, match="did you mean 'decompose'"):
        Job(strategy="decompos")


def test_calls_come_back_from_tables(folder, tmp_path):
    pytest.importorskip("pyarrow")
    path = save(folder / "t.jsonl", rows(1, 2))
    answer_batch(path, tmp_path / "a.parquet", strategy="decompose", **FEW)
    found = read_parquet(tmp_path / "a.parquet")
    assert json.loads(json.dumps(found)) == read(tmp_path / "a.parquet.jsonl")
    assert merge([tmp_path / "a.parquet", tmp_path / "a.parquet.jsonl"], tmp_path / "m.jsonl").equal == ("0-0", "0-1")
