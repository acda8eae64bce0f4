"""Tasks on a local Ray cluster of two cores: each answered once, kept up by the checkpoint, or refused."""

import json
import shutil
import warnings

import pyarrow.parquet as pq
import pytest
import ray
from pyarrow import table

from tests.video.batch.echo import (
    Echo,
    Syncs,
    calls,
    ids,
    rows,
    tasks,
)
from tests.video.batch.videos import read, timeless
from vtc.embedded.video import Video
from vtc.video.batch import Job, answer_batch
from vtc.video.batch.merge import merge
from vtc.video.batch.parquet import read_parquet
from vtc.video.batch.questions import Question, read_questions
from vtc.video.batch.ray.blocks import (
    Actors,
    Lines,
    answer_data,
    answer_tasks,
    context,
    write,
)
from vtc.video.batch.ray.engine import answer_batch_on_ray
from vtc.video.batch.ray.folder import (
    answers,
    checkpoint,
    clear,
    committed,
    covered,
    locked,
    take_back_errors,
    write_tasks,
    written,
)
from vtc.video.batch.ray.output import Place


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Niced workers do not come up where something else keeps the cores busy.
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=500 << 20,
            logging_level="error",
            log_to_driver=False,
            _system_config={"worker_niceness": 0},
        )
        yield
        ray.shutdown()


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def answered(tasks, make, out, actors, stop=lambda: False, **options):
    write_tasks(tasks, out, **options)
    return answer_tasks(make, out, actors, stop)


def test_every_task_is_answered_once_and_a_cut_off_run_goes_on(cluster, out, log, tmp_path):
    answered(tasks(5), Echo(log), out, Actors(2))
    first = rows(out)
    assert [row["id"] for row in first] == ids(5)
    assert first[0] == {
        "id": "t0-0",
        "answer": "grün\n",
        "error": None,
        "frames": [0.1 + 0.2],
        "seconds": {"read": 1e-17},
    }
    assert calls(log) == [f"t{i}" for i in range(5)]

    # As a driver leaves it that is killed before a block was noted as written, and while one was written.
    one, two = committed(out)[:2]
    lost = [*pq.read_table(one)["key"].to_pylist(), *pq.read_table(two)["key"].to_pylist()]
    one.rename(one.with_name(f"{one.stem}.pending.parquet"))
    torn = out / f"{one.stem}.jsonl"
    torn.write_text(torn.read_text()[:10])
    two.unlink()
    (out / f"{two.stem}.jsonl").unlink()
    assert merge([out], tmp_path / "part.jsonl").rows < len(first)

    answered(tasks(5), Echo(log), out, Actors(1))
    assert rows(out) == first
    again = sorted([*(f"t{i}" for i in range(5)), *(key.replace("key", "t") for key in lost)])
    assert calls(log) == again
    merged = merge([out], tmp_path / "whole.jsonl")
    assert (merged.rows, merged.clean, merged.equal) == (len(first), True, ())


def test_a_plan_in_which_ray_filters_nothing_is_refused_before_anything_is_answered_twice(cluster, out, log):
    with ray.data.DataContext.current(context(out)):
        items = [{"key": task.key, "payload": task.payload} for task in tasks(2)]
        answer_data(ray.data.from_items(items), Echo(log), out, Actors(1))
        before = calls(log)
        with pytest.raises(RuntimeError, match="checkpoint is off: it does not filter"):
            answer_data(ray.data.from_items(items), Echo(log), out, Actors(1))
    assert calls(log) == before == ["t0", "t1"]


def test_a_plan_that_ray_warns_of_is_refused(out):
    class Plan:
        def write_datasink(self, sink):
            warnings.warn("This plan doesn't support it. Checkpointing will be disabled.", stacklevel=1)

    with pytest.raises(RuntimeError, match=r"checkpoint is off.*will be disabled"):
        write(Plan(), Lines(out))


def test_a_block_that_the_checkpoint_does_not_cover_is_not_written(cluster, out):
    data = ray.data.from_items([{"key": "a", "rows": "{}\n"}])
    with pytest.raises(Exception, match="has not noted what is about to be written"):
        write(data, Lines(out))
    assert not list(out.glob("*.jsonl"))


def test_a_block_is_on_the_disk_before_the_checkpoint_commits_and_its_note_before_the_block(cluster, out, tmp_path):
    write_tasks(tasks(2), out)  # makes the checkpoint
    with ray.data.DataContext.current(context(out)):
        items = [{"key": name, "rows": json.dumps({"id": name}) + "\n"} for name in "ab"]
        write(ray.data.from_items(items, override_num_blocks=2), Lines(out, Syncs(tmp_path / "syncs")))
    seen = [json.loads(line) for line in (tmp_path / "syncs").read_text().splitlines()]
    blocks = sorted(out.glob("*.jsonl"))
    assert len(blocks) == 2
    for block in blocks:
        key = json.loads(block.read_text())["id"]
        first = [one["path"] for one in seen].index(f"{block.stem}.pending.parquet")
        mine = [one for one in seen[first:] if one["path"] in (block.name, f"{block.stem}.pending.parquet")]
        assert [one["path"] for one in mine] == [f"{block.stem}.pending.parquet", block.name]
        assert mine[1]["size"] == block.stat().st_size > 0
        assert all(key not in one["written"] for one in mine)
    assert sorted({one["path"] for one in seen}) == sorted(
        ["out", "ray-checkpoint-1", *(f"{b.stem}.pending.parquet" for b in blocks), *(b.name for b in blocks)]
    )
    assert written(out) == {"a", "b"}


def test_too_many_errors_end_the_run_and_what_was_answered_stays(cluster, out, log):
    assert answered(tasks(6, broken=True), Echo(log), out, Actors(1, max_errors=1)) == "max_errors"
    assert calls(log) == ["t0", "t1"]
    assert {row["id"] for row in rows(out)} <= {"t0-0", "t1-0", "t1-1"}


def test_a_stopped_run_begins_nothing_more(cluster, out, log):
    assert answered(tasks(6, wait=1.0), Echo(log), out, Actors(1), stop=lambda: any(log.iterdir())) == "interrupted"
    assert 0 < len(calls(log)) < 6


def note(out, block, *keys, errors=()):
    """A block of tasks as Ray leaves it, one row for each, some of them errors."""
    checkpoint(out).mkdir(parents=True, exist_ok=True)
    pq.write_table(table({"key": list(keys)}), checkpoint(out) / f"{block}.parquet")
    found = [{"id": key, "error": "OSError" if key in errors else None} for key in keys]
    (out / f"{block.removesuffix('.pending')}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


def notes(out):
    return sorted(path.name.removesuffix(".parquet") for path in checkpoint(out).iterdir())


def test_tasks_are_written_over_those_of_an_earlier_run(out):
    write_tasks(tasks(2), out)
    note(out, "x", "key0", "key1")
    write_tasks(tasks(3)[2:], out)
    assert pq.read_table(out / "tasks.parquet")["key"].to_pylist() == ["key2"]
    assert [row["id"] for row in answers(out)] == ["key0", "key1"]
    with pytest.raises(ValueError, match="is empty"):
        write_tasks([], out)
    with pytest.raises(ValueError, match="'key0' stands for more than one task"):
        write_tasks([*tasks(3), tasks(1)[0]], out)
    shutil.rmtree(out)
    out.touch()
    with pytest.raises(OSError, match="out"):
        write_tasks(tasks(1), out)


def test_a_file_holds_what_was_asked_first_and_keeps_the_rest(out):
    place = Place(out.with_suffix(".jsonl"))
    for name in ("a", "b", "c"):
        note(place.folder, name, name)
    place.finish([Question(name, "x.mp4", "?") for name in ("c", "a")])
    assert [row["id"] for row in read(place.out)] == ["c", "a", "b"]


def test_one_driver_at_a_time(out):
    with locked(out), pytest.raises(BlockingIOError, match="another driver is writing"), locked(out):
        pass
    with locked(out):
        write_tasks(tasks(1), out)


def test_what_is_pending_covers_its_keys_and_no_others(out):
    note(out, "1.pending", "a", "b")
    note(out, "2", "c")
    first = checkpoint(out) / "1.pending.parquet"
    assert covered(["a"], first)
    assert not covered(["a", "c"], first)
    assert not covered(["c"], checkpoint(out) / "2.pending.parquet")
    assert written(out) == {"c"}


def test_a_worker_that_outlives_its_driver_notes_nothing(out):
    note(out, "1", "key0")
    note(out, "2.pending", "key1")
    before = checkpoint(out)
    write_tasks(tasks(3), out)
    with pytest.raises(FileNotFoundError):
        (before / "2.pending.parquet").rename(before / "2.parquet")
    with pytest.raises(RuntimeError, match="has not noted"), Lines(out).open_output_stream(str(out / "3.jsonl")):
        pass
    (out / "3.jsonl").write_text('{"id": "late", "error": null}\n')
    assert [row["id"] for row in answers(out)] == ["key0"]
    assert merge([out], out.parent / "o.jsonl").rows == 1


def test_clearing_removes_blocks_and_nothing_else(out):
    clear(out)
    note(out, "1", "key0")
    note(out, "2.pending", "key1")
    write_tasks(tasks(2), out)
    (out / "mine.jsonl").write_text("{}\n")
    (out / "checkpoint-500").mkdir()  # as of a training
    before = checkpoint(out)
    clear(out)
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint-500", "mine.jsonl", checkpoint(out).name]
    assert not notes(out)
    write_tasks(tasks(2), out)
    assert not before.exists()  # so that a worker that knows it notes nothing


def test_blocks_with_errors_are_taken_back_and_no_others(out):
    note(out, "good", "key0")
    note(out, "mixed", "key1", "key2", errors=["key2"])
    note(out, "old", "gone", errors=["gone"])
    take_back_errors(out, {"key0", "key1", "key2"})
    assert notes(out) == ["good", "mixed.pending", "old"]
    assert [row["id"] for row in answers(out)] == ["key0", "gone"]
    before = checkpoint(out)
    take_back_errors(out, {"key0", "key1", "key2"})
    assert checkpoint(out) == before


def test_nothing_is_taken_back_where_an_answer_would_be_lost(out):
    note(out, "failed", "key0", errors=["key0"])
    note(out, "mixed", "key1", "other", errors=["key1"])
    with pytest.raises(ValueError, match="beside the answer to 'other'"):
        take_back_errors(out, {"key0", "key1"})
    assert notes(out) == ["failed", "mixed"]
    assert [row["id"] for row in answers(out)] == ["key0", "key1", "other"]


def test_taking_back_goes_on_where_it_was_cut_off(out, monkeypatch):
    keys = {f"key{i}" for i in range(3)}
    for i in range(3):
        note(out, f"b{i}", f"key{i}", errors=[f"key{i}"])
    moved = []

    def full(source, target):
        if len(moved) == 2:  # the checkpoint's name, and the first of its notes
            raise OSError("cut off")
        moved.append(target)
        source.rename(target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(OSError, match="cut off"):
            take_back_errors(out, keys)
    assert notes(out) == ["b0.pending", "b1", "b2"]
    assert [row["id"] for row in answers(out)] == ["key1", "key2"]
    take_back_errors(out, keys)
    assert not list(answers(out))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two videos with two questions each, and one that is not there."""
    folder = tmp_path_factory.mktemp("clips")
    asked = [{"id": "gone", "video": "gone.mp4", "question": "what is there?", "label": [7]}]
    for seed in (1, 2):
        video = Video(seed)
        video.save(folder / f"{seed}.mp4")
        for number, one in enumerate(video.questions[:2]):
            row = {"id": f"{seed}-{number}", "video": f"{seed}.mp4", "question": one.question, "answer": one.answer}
            asked.append(row)
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return folder


def stamps(folder):
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.jsonl")}


def test_answers_are_those_of_the_local_engine_in_a_file_in_the_order_of_the_questions(cluster, clips, tmp_path):
    fields, out, folder = {"max_new_tokens": 4, "frames": 8}, tmp_path / "a.jsonl", tmp_path / "a.jsonl.blocks"
    asked = [read_questions(clips / "questions.jsonl")[i] for i in (3, 0, 1, 4, 2)]  # those of one video apart
    with_system_prompt = []

    def on_ray(**more):
        return answer_batch_on_ray(asked, out, **{**fields, **more})

    def same():
        answer_batch(asked, tmp_path / "local.jsonl", retry=True, **fields)
        here = {row["id"]: row for row in read(tmp_path / "local.jsonl")}
        there = read(out)
        assert all(len(row["seconds"]) == 6 for row in there)
        return timeless(there) == timeless(here[question.id] for question in asked)

    assert on_ray(limit=1).rows == 1  # of a video of two questions one; the other comes in its own block
    there = on_ray(progress=lambda done, total: with_system_prompt.append((done, total)))
    local = answer_batch(asked, tmp_path / "local.jsonl", **fields)
    assert same()
    assert (there.rows, there.answered, there.fresh, there.stopped) == (5, 4, 4, "")
    assert (there.errors, there.exit_code) == (local.errors, 1) == ({"FileNotFoundError": 1}, 1)
    assert (there.accuracy, there.tokens_kept) == (local.accuracy, local.tokens_kept)
    assert with_system_prompt == [(1, 5), (5, 5)]
    merged = merge([folder], tmp_path / "merged.jsonl", clips / "questions.jsonl")
    assert (merged.rows, merged.clean, merged.equal) == (5, True, ())

    with pytest.raises(ValueError, match=rf"out={folder}: '\S+' was answered .*generation arguments.*--overwrite"):
        on_ray(max_new_tokens=5)

    # The video comes: its error is asked again, with `retry` alone, and good blocks are left as they are.
    Video(3).save(clips / "gone.mp4")
    before, first = stamps(folder), out.read_bytes()
    with pytest.raises(ValueError, match=r"the medium were not.*\(--retry\)"):
        on_ray()
    ended = on_ray(retry=True, stop=lambda: True)
    assert (ended.stopped, ended.rows, out.read_bytes()) == ("interrupted", 4, first)
    again = on_ray()
    assert (again.rows, again.answered, again.fresh, again.exit_code) == (5, 5, 1, 0)
    assert len(before.items() & stamps(folder).items()) == 3
    assert len(before.keys() | stamps(folder).keys()) == 5
    assert same()

    # All is there: the file is made again, and nothing is asked.
    whole = out.read_bytes()
    out.unlink()
    assert on_ray().fresh == 0
    assert out.read_bytes() == whole

    with pytest.raises(RuntimeError, match=rf"{folder} lacks \d+ answers .*--overwrite"):
        on_ray(progress=lambda done, total: next(folder.glob("*.jsonl")).unlink())


def place_of(folder, name, count=2):
    """A place with answers to `count` questions, and those."""
    place = Place(folder / name)
    asked = [Question(f"key{i}", "a.mp4", "what?", extra={"mark": i}) for i in range(count)]
    for i in range(count):
        note(place.folder, f"{count - i}", f"key{i}")
    return place, asked


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "A.JSONL"])
def test_a_file_is_made_of_the_blocks_beside_it(tmp_path, name):
    place, asked = place_of(tmp_path, name)
    assert place.folder == tmp_path / f"{name}.blocks"
    place.check(asked, overwrite=False)
    place.finish(asked[::-1])
    found = read_parquet(place.out) if name.endswith("parquet") else read(place.out)
    assert [row["id"] for row in found] == ["key1", "key0"]
    place.check(asked, overwrite=False)
    place.clear()
    assert not place.out.exists()
    assert not list(place.folder.glob("*.*"))


def test_a_folder_stays_one_whatever_it_is_called(tmp_path):
    assert Place(tmp_path / "answers").folder == tmp_path / "answers"
    (tmp_path / "old.jsonl").mkdir()
    place, asked = place_of(tmp_path, "old.jsonl")
    assert place.folder == place.out
    place.check(asked, overwrite=False)
    place.finish(asked)
    assert [row["id"] for row in answers(place.out)] == ["key1", "key0"]


def test_a_file_that_ray_did_not_write_is_neither_gone_on_with_nor_thrown_away(tmp_path):
    place = Place(tmp_path / "a.jsonl")
    place.out.write_text('{"id": "1", "error": null}\n')
    with pytest.raises(ValueError, match=r"out=.*a\.jsonl is there, but a\.jsonl\.blocks.*--overwrite"):
        place.check([], overwrite=False)
    place.check([], overwrite=True)  # answers of another engine
    place.out.write_text('{"id": "1", "question": "what?"}\n')
    with pytest.raises(ValueError, match="line 1 is no answer"):
        place.check([], overwrite=True)
    mixed = [Question(str(i), "a.mp4", "what?", extra={"mark": mark}) for i, mark in enumerate((1, "one"))]
    with pytest.raises(ValueError, match="'mark' does not fit"):
        Place(tmp_path / "b.parquet").check(mixed, overwrite=False)


def test_what_is_refused(clips, out):
    asked = clips / "questions.jsonl"
    with pytest.raises(TypeError, match=r"job and keep .*both"):
        answer_batch_on_ray(asked, out, job=Job(), keep=0.5)
    with pytest.raises(ValueError, match="workers=0"):
        answer_batch_on_ray(asked, out, workers=0)
    with pytest.raises(ValueError, match="shard=3/2"):
        answer_batch_on_ray(asked, out, shard=(3, 2))
    with pytest.raises(ValueError, match=rf"out={asked} .*questions"):
        answer_batch_on_ray(asked, asked, overwrite=True)
    assert not out.exists()
