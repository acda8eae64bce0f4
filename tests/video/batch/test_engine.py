"""The local engine: answers shared and unshared, scarce memory, a full disk, and what is refused."""

from __future__ import annotations

import errno
import json
import os
from functools import cache

import pytest
import torch

from tests.video.batch.films import FEW, clips, question, read, rows, save, timeless
from vtc.chat import processed
from vtc.recipes import recipe
from vtc.video import answer_batch
from vtc.video.batch import Answerer, Job, fingerprint, grouped
from vtc.video.batch.forking import ask_whole, go_on, on_device, read_prefix
from vtc.video.batch.prompts import Prompts
from vtc.video.batch.records import Records
from vtc.wrap import reduced


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("clips")
    clips(made, 3)
    (made / "broken.mp4").write_bytes(b"no video at all")
    return made


@cache
def answerer(name="tiny-qwen"):
    return Answerer(Job(model=name, dtype="float32", **FEW))


@pytest.mark.parametrize("name", ["tiny-qwen", "tiny-llava", "tiny-internvl"])
def test_a_shared_prefix_answers_as_whole_prompts_do(folder, name):
    one = answerer(name)
    group = grouped([question(row, folder) for row in rows(1, 4)])[0]
    opened = one.open(group)
    asked = [q.question for q in group.questions]
    prompts = Prompts.of(one.processor, opened.prompt, asked, opened.medium, opened.inputs)
    for i, text in enumerate(asked):
        assert torch.equal(
            prompts.whole(i)["input_ids"], processed(one.processor, [text], [opened.medium])["input_ids"]
        )
    with reduced(one.model, opened.recipe):
        prefix = read_prefix(one.model, prompts)
        forked = go_on(one.model, one.processor, prompts, prefix, [0, 1, 2, 3], 6).texts
        alone = [ask_whole(one.model, one.processor, prompts, i, 6)[0].texts[0] for i in range(4)]
        full = on_device(one.model, processed(one.processor, asked, [opened.medium] * 4))
        out = one.model.generate(**full, max_new_tokens=6, do_sample=False)[:, full["input_ids"].shape[1] :]
    batched = [text.strip() for text in one.processor.tokenizer.batch_decode(out, skip_special_tokens=True)]
    assert forked == alone == batched
    # The control: another picture's prefix answers otherwise, so that equality says something.
    with reduced(one.model, opened.recipe):
        other = one.open(grouped([question(row, folder) for row in rows(2, 4)])[1])
        wrong = Prompts.of(one.processor, other.prompt, asked, other.medium, other.inputs)
        assert go_on(one.model, one.processor, wrong, read_prefix(one.model, wrong), [0, 1, 2, 3], 6).texts != forked


def test_a_job_gives_one_row_a_question(folder, tmp_path):
    listed = [
        *rows(2, 3),
        {**rows(1, 1)[0], "id": "b", "video": "broken.mp4"},
        {**rows(1, 1)[0], "id": "n", "video": "no"},
    ]
    out = tmp_path / "a.jsonl"
    told = []
    summary = answer_batch(
        save(folder / "q.jsonl", listed), out, progress=lambda *done: told.append(done), workers=1, **FEW
    )
    found = read(out)
    assert [row["id"] for row in found] == [row["id"] for row in listed]
    assert [row["error"] is not None for row in found] == [False] * 6 + [True] * 2
    assert found[7]["error"].startswith("FileNotFoundError: ")
    assert list(found[0]) == [
        *("id", "answer", "error", "correct", "frames", "tokens_full", "tokens_kept", "seconds", "recipe"),
        *("fingerprint", "versions", "seed", "mark"),
    ]
    assert 0 < found[0]["tokens_kept"] < found[0]["tokens_full"]
    assert 0 < len(found[0]["frames"]) <= 4
    assert (summary.rows, summary.answered, summary.known, summary.exit_code) == (8, 6, 8, 1)
    assert summary.accuracy.mean == sum(bool(row.get("correct")) for row in found) / 8
    assert summary.errors == {"ValueError": 1, "FileNotFoundError": 1}
    assert told[-1] == (8, 8)
    again = answer_batch(folder / "q.jsonl", out, **FEW)
    assert (again.fresh, again.rows) == (0, 8)
    with pytest.raises(ValueError, match="--anew"):
        answer_batch(folder / "q.jsonl", out, keep=0.5, **FEW)
    with pytest.raises(ValueError, match="shard=3/2"):
        answer_batch(folder / "q.jsonl", out, shard=(3, 2), **FEW)


def test_asked_to_stop_it_leaves_what_the_next_run_goes_on_with(folder, tmp_path):
    path = save(folder / "stop.jsonl", rows(2, 3))
    whole, out = tmp_path / "whole.jsonl", tmp_path / "a.jsonl"
    answer_batch(path, whole, batch=2, workers=1, **FEW)
    count = []
    first = answer_batch(
        path, out, batch=2, workers=1, progress=lambda done, _: count.append(done), stop=lambda: len(count) > 2, **FEW
    )
    assert (first.stopped, first.exit_code, first.fresh) == ("interrupted", 130, 2)
    with out.open("ab") as file:
        file.write(b'{"id": "0-2", "answ')
    answer_batch(path, out, batch=2, workers=1, **FEW)
    assert timeless(read(out)) == timeless(read(whole))


def test_too_many_errors_end_it(folder, tmp_path):
    listed = [{**rows(1, 1)[0], "id": str(i), "video": "broken.mp4"} for i in range(4)]
    summary = answer_batch(save(folder / "bad.jsonl", listed), tmp_path / "a.jsonl", max_errors=1, **FEW)
    assert (summary.stopped, summary.fresh, summary.exit_code) == ("max_errors", 2, 1)


def test_memory_that_does_not_suffice(folder, monkeypatch):
    one = Answerer(Job(dtype="float32", allow_fewer_frames=True, **FEW))
    group = grouped([question(row, folder) for row in rows(1, 4)])[0]
    plain = timeless(one.answer(group))
    sizes = []

    def scarce(model, processor, prompts, prefix, chosen, longest):
        sizes.append(len(chosen))
        if len(chosen) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return go_on(model, processor, prompts, prefix, chosen, longest)

    monkeypatch.setattr("vtc.video.batch.answerer.go_on", scarce)
    assert timeless(one.answer(group)) == plain
    assert sizes == [4, 2, 1, 1, 1, 1]


def test_fewer_frames_where_memory_never_suffices(folder, monkeypatch):
    group = grouped([question(row, folder) for row in rows(1, 2)])[0]

    sizes = []

    def scarce(model, prompts):
        sizes.append(prompts.prefix)
        if prompts.prefix == sizes[0]:  # room for half the frames alone
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read_prefix(model, prompts)

    monkeypatch.setattr("vtc.video.batch.answerer.read_prefix", scarce)
    allowed = list(Answerer(Job(allow_fewer_frames=True, **FEW)).answer(group))
    assert [row["error"] for row in allowed] == [None, None]
    assert "memory did not suffice" in allowed[0]["note"]
    assert len(sizes) == 3
    sizes.clear()
    refused = list(Answerer(Job(**FEW)).answer(group))
    assert [row["error"].partition(":")[0] for row in refused] == ["OutOfMemoryError"] * 2


def test_a_full_disk_takes_back_half_a_row(tmp_path):
    path = tmp_path / "a.jsonl"
    with Records(path) as records:
        records.append({"id": "1"})

        def full(handle, data):
            if len(data) > 5:
                return os.write(handle, data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            records.append({"id": "2"}, write=full)
        with pytest.raises(BlockingIOError, match="another process"):
            Records(path)
    assert read(path) == [{"id": "1"}]


def test_answers_that_cannot_be_gone_on_with(tmp_path):
    for text, match in (("x\n", "line 1 is no answer"), ('{"id": "1"}\n{"id": "1"}\n', "answered twice")):
        (tmp_path / "a.jsonl").write_text(text)
        with pytest.raises(ValueError, match=match):
            Records(tmp_path / "a.jsonl")
    with pytest.raises(FileNotFoundError, match="make it first"):
        Records(tmp_path / "none" / "a.jsonl")
    with pytest.raises(ValueError, match=r"ending \.jsonl"):
        Records(tmp_path / "a.csv")


def test_a_fingerprint_binds_what_an_answer_depends_on(tmp_path):
    medium = tmp_path / "a.mp4"
    medium.write_bytes(b"1")
    base = fingerprint(Job(), str(medium))
    assert base == fingerprint(Job(timeout=9.0, batch=2), str(medium)) == fingerprint(Job.of("video"), str(medium))
    others = [Job(keep=0.5), Job.of("evs"), Job(max_new_tokens=9), Job(seed=1), Job(frames=8), Job(model="tiny-llava")]
    assert len({base, *(fingerprint(job, str(medium)) for job in others)}) == 7
    medium.write_bytes(b"12")
    assert fingerprint(Job(), str(medium)) != base
    assert Job(**json.loads(json.dumps(Job.of("evs", keep=0.5).to_dict()))).recipe_for(False) == recipe("evs", keep=0.5)
