"""The local engine: answers shared and unshared, scarce memory, a full disk, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
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
from vtc.inference.prompting import processed
from vtc.media.frame_times import on_device
from vtc.recipes.named import recipe
from vtc.reduction.api import reduced
from vtc.stages import KCenter
from vtc.video import answer_batch
from vtc.video.batch import (
    Answerer,
    Group,
    Job,
    Question,
    fingerprint,
    grouped,
)
from vtc.video.batch import (
    loading as opening,
)
from vtc.video.batch.engine import chosen_groups
from vtc.video.batch.fingerprints import PARTS, differing
from vtc.video.batch.journal import Records
from vtc.video.batch.prompts import Prompts
from vtc.video.batch.shared_prefix import ask_whole, go_on, read_prefix


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
    # The control: another image's prefix answers otherwise, so that equality says something.
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
    with_system_prompt = []
    summary = answer_batch(
        save(folder / "q.jsonl", listed), out, progress=lambda *done: with_system_prompt.append(done), workers=1, **FEW
    )
    found = read(out)
    assert [row["id"] for row in found] == [row["id"] for row in listed]
    assert [row["error"] is not None for row in found] == [False] * 6 + [True] * 2
    assert found[7]["error"].startswith("FileNotFoundError: ")
    assert list(found[0]) == [
        *("id", "video", "question", "answer", "error", "correct", "frames", "tokens_full", "tokens_kept", "seconds"),
        *("recipe", "fingerprint", "versions", "seed", "mark"),
    ]
    assert (found[0]["video"], found[0]["question"]) == (str(folder / listed[0]["video"]), listed[0]["question"])
    assert 0 < found[0]["tokens_kept"] < found[0]["tokens_full"]
    assert 0 < len(found[0]["frames"]) <= 4
    assert (summary.rows, summary.answered, summary.known, summary.exit_code) == (8, 6, 8, 1)
    assert summary.accuracy.mean == sum(bool(row.get("correct")) for row in found) / 8
    assert summary.errors == {"ValueError": 1, "FileNotFoundError": 1}
    assert with_system_prompt[-1] == (8, 8)
    again = answer_batch(folder / "q.jsonl", out, **FEW)
    assert (again.fresh, again.rows) == (0, 8)
    with pytest.raises(ValueError, match="--overwrite"):
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
        records.append({"id": "1", "error": None})

        def full(handle, data):
            if len(data) > 5:
                return os.write(handle, data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            records.append({"id": "2", "error": None}, write=full)
        with pytest.raises(BlockingIOError, match="another process"):
            Records(path)
    assert read(path) == [{"id": "1", "error": None}]


def test_answers_that_cannot_be_gone_on_with(tmp_path):
    one = '{"id": "1", "error": null}\n'
    for text, match in (
        ("x\n", "line 1 is no JSON"),
        (one * 2, "answered twice"),
        (one + "\n", "line 2 is empty; remove it"),
        (one + "[1]\n", "line 2 is a JSON list, not an object; remove the line, or write to another file"),
    ):
        (tmp_path / "a.jsonl").write_text(text)
        with pytest.raises(ValueError, match=match):
            Records(tmp_path / "a.jsonl")
        assert (tmp_path / "a.jsonl").read_text() == text
    with pytest.raises(FileNotFoundError, match="make it first"):
        Records(tmp_path / "none" / "a.jsonl")
    with pytest.raises(ValueError, match=r"ending \.jsonl"):
        Records(tmp_path / "a.csv")


NO_ANSWERS = ["a note", "a note\n", '{"id": "1", "question": "what?"}', '{"id": "1", "video": "a"}\n']
NO_ANSWERS += ['{"id": "conf", "settings": [1, 2', "{ "]


@pytest.mark.parametrize("before", ["", '{"id": "a", "answer": null, "error": null}\n'])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("text", NO_ANSWERS)
def test_what_is_no_answer_is_left_as_it_is(tmp_path, text, overwrite, before):
    path = tmp_path / "a.jsonl"
    path.write_text(before + text)
    with pytest.raises(
        ValueError, match=r"line \d is no (answer|JSON \(.*\)); remove the line, or write to another file"
    ):
        Records(path, overwrite=overwrite)
    assert path.read_text() == before + text


def test_a_last_line_is_cut_off_where_it_is_torn_and_ended_where_it_is_whole(tmp_path):
    path, rows = tmp_path / "a.jsonl", [{"id": name, "answer": None, "error": name} for name in ("1", 'a"ü')]
    first, second = (json.dumps(row, ensure_ascii=False).encode() for row in rows)
    for cut in range(1, len(second) + 1):
        path.write_bytes(first + b"\n" + second[:cut])
        with Records(path) as records:
            whole = cut == len(second)
            assert (len(records.done), records.repaired) == ((2, 0) if whole else (1, cut))
            records.append({"id": "3", "error": None})
        assert read(path) == [*rows[: 1 + whole], {"id": "3", "error": None}]
        path.write_bytes(first + b"\n" + second[:cut])
        with Records(path, overwrite=True) as records:
            assert (records.done, path.read_bytes()) == ({}, b"")


def test_answers_are_not_written_over_the_questions(folder, tmp_path):
    path = save(tmp_path / "q.jsonl", [{**rows(1, 1)[0], "video": str(folder / "0.mp4")}])
    (tmp_path / "link.jsonl").symlink_to(path)
    before = path.read_bytes()
    for out in (path, tmp_path / "link.jsonl"):
        for overwrite in (False, True):
            with pytest.raises(ValueError, match=f"out={out} .*questions"):
                answer_batch(path, out, overwrite=overwrite, **FEW)
    assert path.read_bytes() == before


def test_a_link_to_answers_stays_one_where_errors_are_asked_again(folder, tmp_path):
    path = save(folder / "link.jsonl", [{**rows(1, 1)[0], "video": "none.mp4"}])
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "home.jsonl")
    (tmp_path / "home.jsonl").touch()
    (tmp_path / "home.jsonl").chmod(0o664)
    for retry in (False, True):
        assert answer_batch(path, tmp_path / "a.jsonl", retry=retry, **FEW).fresh == 1
        assert (tmp_path / "home.jsonl").stat().st_mode & 0o777 == 0o664
    assert (tmp_path / "a.jsonl").is_symlink()
    assert len(read(tmp_path / "home.jsonl")) == 1


def test_questions_about_one_medium_stay_in_one_shard(folder):
    stretches = [{"start": start} for start in (None, 1.0, 2.0)]
    listed = [
        question(row, folder, id=f"{row['id']}-{i}", **more) for row in rows(3, 1) for i, more in enumerate(stretches)
    ]
    shards = [chosen_groups(listed, shard=(i, 2)) for i in (1, 2)]
    media = [{group.first.medium for group in groups} for groups in shards]
    assert not media[0] & media[1]
    assert sorted(q.id for groups in shards for group in groups for q in group.questions) == sorted(
        q.id for q in listed
    )


def test_a_fingerprint_binds_what_an_answer_depends_on(tmp_path):
    medium = tmp_path / "a.mp4"
    medium.write_bytes(b"1")
    asked = Question("1", str(medium), "what?")
    base = fingerprint(Job(), asked)
    assert base == fingerprint(Job(timeout=9.0, batch=2), asked)
    others = [Job(keep=0.5), Job.of("evs"), Job(max_new_tokens=9), Job(seed=1), Job(frames=8), Job(model="tiny-llava")]
    found = [base, *(fingerprint(job, asked) for job in others)]
    assert len(set(found)) == 7
    assert len({one[8:] for one in found}) == 1
    for changed in ({"question": "who?"}, {"choices": ("a", "b")}, {"start": 1.0}, {"answer": "x"}, {"system": "s"}):
        assert differing(base, fingerprint(Job(), replace(asked, **changed))) == [PARTS[2]]
    (tmp_path / "moved").mkdir()
    medium.rename(tmp_path / "moved" / "a.mp4")
    moved = replace(asked, medium=str(tmp_path / "moved" / "a.mp4"))
    assert fingerprint(Job(), moved) == base  # a folder may be mounted elsewhere
    assert differing(base, fingerprint(Job(), asked)) == []  # what is gone is no other medium
    assert differing(fingerprint(Job(), asked), base) == [PARTS[1]]
    (tmp_path / "moved" / "a.mp4").write_bytes(b"12")
    assert differing(base, fingerprint(Job(), moved)) == [PARTS[1]]
    assert differing(base, fingerprint(Job(seed=1), moved)) == [*PARTS[:2]]
    assert Job(**json.loads(json.dumps(Job.of("evs", keep=0.5).to_dict()))).recipe_for(False) == recipe("evs", keep=0.5)


def test_answers_stay_where_a_medium_is_gone_and_an_edited_question_is_refused(folder, tmp_path):
    shutil.copy(folder / "0.mp4", tmp_path / "0.mp4")
    shutil.copy(folder / "1.mp4", tmp_path / "1.mp4")
    listed, out = rows(2, 2), tmp_path / "a.jsonl"
    path = save(tmp_path / "q.jsonl", listed)
    answer_batch(path, out, limit=3, **FEW)
    (tmp_path / "0.mp4").unlink()
    assert answer_batch(path, out, **FEW).answered == 4
    edited = save(tmp_path / "e.jsonl", [{**listed[0], "answer": "other"}, *listed[1:]])
    with pytest.raises(ValueError, match=rf"out={out}: '0-0' was answered when the question.*--overwrite"):
        answer_batch(edited, out, **FEW)


def test_a_medium_that_changes_while_it_is_read_is_an_error(folder, tmp_path, monkeypatch):
    path = tmp_path / "0.mp4"
    shutil.copy(folder / "0.mp4", path)
    whole = opening.prepare

    def prepared(*given, **named):
        found = whole(*given, **named)
        shutil.copy(folder / "1.mp4", path)
        return found

    monkeypatch.setattr(opening, "prepare", prepared)
    (row,) = answerer().answer(Group((question(rows(1, 1)[0], tmp_path),)))
    assert "was changed while it was read" in row["error"]


def test_the_error_that_was_one_too_many_may_be_the_last(folder, tmp_path):
    listed = [rows(1, 1)[0], {**rows(1, 1)[0], "id": "b", "video": "broken.mp4"}]
    summary = answer_batch(save(folder / "last.jsonl", listed), tmp_path / "a.jsonl", max_errors=0, **FEW)
    assert (summary.stopped, summary.rows, summary.exit_code) == ("", 2, 1)


def test_questions_that_no_file_holds_are_looked_at_too(folder, tmp_path):
    for wrong in ({"extra": {"t": float("nan")}}, {"question": "\ud83d"}):
        listed = [question(rows(1, 1)[0], folder, **wrong)]
        with pytest.raises(ValueError, match="questions: '0-0' holds what JSON"):
            answer_batch(listed, tmp_path / "a.jsonl", **FEW)
    assert not (tmp_path / "a.jsonl").exists()


@dataclass(frozen=True)
class Unregistered(KCenter):
    name = "unregistered"


def test_what_a_job_refuses():
    with pytest.raises(TypeError, match=r"anew=True is no setting of a job; it is `overwrite` now"):
        Job.of(anew=True)
    with pytest.raises(TypeError, match=r"fames=3 is no setting of a job; did you mean .frames."):
        Job.of(fames=3)
    with pytest.raises(ValueError, match=r"Unregistered.*register_stage"):
        Job.of(Unregistered())
    for value in (0, -1.0, float("nan"), True):
        with pytest.raises((TypeError, ValueError), match="timeout="):
            Job(timeout=value)


def test_a_job_of_numpys_ints_is_json():
    made = Job(max_new_tokens=np.int64(4), batch=np.int32(2), max_prompt=np.int64(300))
    assert Job(**json.loads(json.dumps(made.to_dict()))) == made


def test_slim_answers_leave_out_what_the_questions_hold(folder, tmp_path):
    file = save(folder / "q.jsonl", rows(1, 2))
    whole, slim = tmp_path / "whole.jsonl", tmp_path / "slim.jsonl"
    answer_batch(file, whole, workers=1, **FEW)
    answer_batch(file, slim, workers=1, slim=True, **FEW)
    times = {"seconds"}
    for row, short in zip(read(whole), read(slim), strict=True):
        assert {"video", "question"} == row.keys() - short.keys()
        assert {k: v for k, v in short.items() if k not in times} == {k: row[k] for k in short if k not in times}
    answer_batch(file, slim, workers=1, **FEW)  # the fingerprint is the same, so nothing is asked again
