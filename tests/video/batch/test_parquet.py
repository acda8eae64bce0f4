"""Answers as Parquet: the rows of the JSONL file, one schema whatever was asked, and nothing half written."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image
from pyarrow import table
from pyarrow.parquet import read_schema, read_table, write_table

from tests.video.batch.videos import (
    FEW,
    read,
    save,
    timeless,
    video,
)
from vtc.video import answer_batch
from vtc.video.batch.merge import merge
from vtc.video.batch.parquet import read_parquet, write_parquet


@pytest.fixture
def asked(tmp_path):
    """Questions about two images, of which one is not there; some with choices, some with a mark."""
    Image.fromarray(video(0).pixels(96)[0]).save(tmp_path / "0.png")
    listed = [
        {"id": "a", "image": "0.png", "question": "what is there?", "mark": 1.5},
        {"id": "b", "image": "0.png", "question": "which?", "choices": ["red", "blue"], "answer": "red"},
        {"id": "c", "image": "gone.png", "question": "what is there?"},
    ]
    return save(tmp_path / "q.jsonl", listed)


def test_the_table_holds_the_rows_of_the_journal(asked, tmp_path):
    out, lines = tmp_path / "a.parquet", tmp_path / "a.jsonl"
    summary = answer_batch(asked, out, **FEW)
    assert (summary.rows, summary.answered) == (3, 2)
    answer_batch(asked, lines, **FEW)
    journal = read(tmp_path / "a.parquet.jsonl")
    assert timeless(journal) == timeless(read(lines))
    table = read_table(out).to_pylist()
    for row, with_system_prompt in zip(table, journal, strict=True):
        assert {name: row[name] for name in with_system_prompt} == with_system_prompt
        assert all(row[name] is None for name in set(row) - set(with_system_prompt))
    assert [row["mark"] for row in table] == [1.5, None, None]
    assert table[2]["error"].startswith("FileNotFoundError")
    again = answer_batch(asked, out, **FEW)
    assert (again.fresh, again.rows) == (0, 3)
    with pytest.raises(ValueError, match="--overwrite"):
        answer_batch(asked, out, keep=0.9, **FEW)


def test_a_run_that_is_cut_off_writes_no_table_and_the_next_one_does(asked, tmp_path):
    out = tmp_path / "a.parquet"
    assert answer_batch(asked, out, batch=1, stop=lambda: stopped(out), **FEW).stopped == "interrupted"
    assert not out.exists()
    assert answer_batch(asked, out, **FEW).stopped == ""
    assert [row["id"] for row in read_parquet(out)] == ["a", "b", "c"]
    before = out.read_bytes()
    out.unlink()  # killed between the last row and the table
    answer_batch(asked, out, **FEW)
    assert out.read_bytes() == before


def stopped(out):
    journal = out.with_name(f"{out.name}.jsonl")
    return journal.exists() and journal.read_bytes().count(b"\n") > 0


def test_a_table_that_is_not_all_any_more_is_taken_away(asked, tmp_path):
    out = tmp_path / "a.parquet"
    answer_batch(asked, out, limit=1, **FEW)
    assert len(read_parquet(out)) == 1
    assert answer_batch(asked, out, stop=lambda: True, **FEW).stopped == "interrupted"
    assert not out.exists()
    answer_batch(asked, out, **FEW)
    assert len(read_parquet(out)) == 3


def test_a_link_to_a_table_stays_one(asked, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "a.parquet").symlink_to(tmp_path / "home" / "real.parquet")
    answer_batch(asked, tmp_path / "a.parquet", limit=1, **FEW)
    assert (tmp_path / "a.parquet").is_symlink()
    assert len(read_parquet(tmp_path / "home" / "real.parquet")) == 1


def test_a_table_of_somebody_else_is_left_even_beside_a_journal(asked, tmp_path):
    out = tmp_path / "a.parquet"
    answer_batch(asked, out, **FEW)
    write_table(table({"mine": [1]}), out)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=rf"out={out} is no file"):
            answer_batch(asked, out, overwrite=overwrite, **FEW)
    assert read_table(out).column_names == ["mine"]


def test_errors_asked_again_are_in_the_table(asked, tmp_path):
    out = tmp_path / "a.parquet"
    answer_batch(asked, out, **FEW)
    shutil.copy(tmp_path / "0.png", tmp_path / "gone.png")
    assert answer_batch(asked, out, retry=True, **FEW).answered == 3
    assert {row["id"]: row["error"] for row in read_parquet(out)} == {"a": None, "b": None, "c": None}


MISFITS = ((1, [2], "'mark'"), ({}, {}, "no child"), ([{}], [{}], "no child"), (2**70, 1, "'mark'"))
MISFITS += (({"a": 1}, {"b": 2}, "would not come back from Parquet as it is"),)


def test_what_no_table_can_hold_is_refused_before_anything_is_answered(asked, tmp_path):
    base = {"image": "0.png", "question": "what?"}
    for mark, other, match in MISFITS:
        rows = [{"id": "a", "mark": mark, **base}, {"id": "b", "mark": other, **base}]
        with pytest.raises(ValueError, match=match):
            answer_batch(save(tmp_path / "bad.jsonl", rows), tmp_path / "bad.parquet", **FEW)
    (tmp_path / "other.parquet").write_bytes(b"somebody's")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"out=.*other\.parquet is no file"):
            answer_batch(asked, tmp_path / "other.parquet", overwrite=overwrite, **FEW)
    assert (tmp_path / "other.parquet").read_bytes() == b"somebody's"
    assert not any(path.stat().st_size for path in tmp_path.glob("*.parquet.jsonl"))


def test_rows_of_an_earlier_run_are_looked_at_too(tmp_path, asked):
    base = {"image": "0.png", "question": "what?"}
    path, out = tmp_path / "bad.jsonl", tmp_path / "bad.parquet"
    answer_batch(save(path, [{"id": "a", "mark": 1, **base}]), out, **FEW)
    with pytest.raises(ValueError, match="'mark' does not fit one kind"):
        answer_batch(save(path, [{"id": "a", **base}, {"id": "b", "mark": "x", **base}]), out, **FEW)
    assert len(read(tmp_path / "bad.parquet.jsonl")) == 1


def test_answers_whose_journal_is_gone_are_thrown_away_where_that_is_asked(asked, tmp_path):
    out = tmp_path / "a.parquet"
    answer_batch(asked, out, **FEW)
    (tmp_path / "a.parquet.jsonl").unlink()
    with pytest.raises(ValueError, match=r"or start again \(--overwrite\)"):
        answer_batch(asked, out, **FEW)
    answer_batch(asked, out, overwrite=True, limit=1, **FEW)
    assert len(read_parquet(out)) == 1


def test_shards_have_one_schema_and_merge(asked, tmp_path):
    parts = [tmp_path / f"{i}.parquet" for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        answer_batch(asked, part, shard=(i, 2), **FEW)
    ours = [read_schema(part).remove_metadata() for part in parts]
    named = [{field.name: field.type for field in one if field.name != "mark"} for one in ours]
    assert named[0] == named[1]
    merged = merge(parts, tmp_path / "all.jsonl", asked)
    assert (merged.rows, merged.clean) == (3, True)
    answer_batch(asked, tmp_path / "whole.jsonl", **FEW)
    parted, whole = (with_system_prompt(read(tmp_path / name)) for name in ("all.jsonl", "whole.jsonl"))
    assert parted == whole
    assert merge([*parts, tmp_path / "whole.jsonl"], tmp_path / "all.jsonl", asked).equal == ("a", "b", "c")


def with_system_prompt(rows):
    """Rows without times and without what holds nothing: a table has every column in every row."""
    return [{name: value for name, value in row.items() if value is not None} for row in timeless(rows)]


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet([{"id": "1"}], path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="'x' does not fit one kind"):
        write_parquet([{"id": "1", "x": 1}, {"id": "2", "x": "two"}], path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.parquet"]
