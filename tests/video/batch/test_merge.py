"""Answers joined: each id once, duplicates and gaps told, the whole file or none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from vtc.cli.main import app
from vtc.video.batch.merge import answer_files, merge

KNOWN = {"id": "a", "video": "a.mp4", "question": "what?", "answer": "red"}
"""A question whose right answer is known."""


def row(name, answer="red", fingerprint="f", **more):
    return {"id": name, "answer": answer, "error": None, "fingerprint": fingerprint, **more}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def ask(tmp_path, names):
    rows = [{"id": name, "video": "a.mp4", "question": "what?"} for name in names]
    return write(tmp_path / "questions.jsonl", rows)


def test_shards_come_together_in_the_order_asked(tmp_path):
    first, second = write(tmp_path / "1.jsonl", [row("c"), row("a")]), write(tmp_path / "2.jsonl", [row("b", "blau ü")])
    merged = merge([first, second], tmp_path / "out.jsonl", ask(tmp_path, "abc"))
    assert (merged.rows, merged.clean) == (3, True)
    assert read(tmp_path / "out.jsonl") == [row("a"), row("b", "blau ü"), row("c")]
    merge([first, second], tmp_path / "out.jsonl")
    assert [one["id"] for one in read(tmp_path / "out.jsonl")] == ["c", "a", "b"]


def test_equal_answers_are_written_once_whatever_they_took(tmp_path):
    calls = [[{"purpose": "answer", "text": "red", "seconds": value}] for value in (1.0, 2.0)]
    first = write(tmp_path / "1.jsonl", [row("a", seconds={"read": 1.0}, calls=calls[0])])
    second = write(tmp_path / "2.jsonl", [row("a", seconds={"read": 2.0}, calls=calls[1]), row("b")])
    merged = merge([first, second], tmp_path / "out.jsonl")
    assert (merged.equal, merged.unequal, merged.clean) == (("a",), (), True)
    assert [one["id"] for one in read(tmp_path / "out.jsonl")] == ["a", "b"]


def test_unequal_answers_are_told_and_the_first_is_written(tmp_path):
    first, second = write(tmp_path / "1.jsonl", [row("a", "red")]), write(tmp_path / "2.jsonl", [row("a", "blue")])
    again = write(tmp_path / "3.jsonl", [row("a", "red")])
    merged = merge([first, again, second], tmp_path / "out.jsonl")
    assert (merged.equal, merged.unequal, merged.clean) == ((), ("a",), False)
    assert read(tmp_path / "out.jsonl") == [row("a", "red")]


def test_gaps_and_strangers_are_told(tmp_path):
    merged = merge([write(tmp_path / "1.jsonl", [row("a"), row("x")])], tmp_path / "o.jsonl", ask(tmp_path, "ab"))
    assert (merged.gaps, merged.strange, merged.clean) == (("b",), ("x",), False)
    assert [one["id"] for one in read(tmp_path / "o.jsonl")] == ["a", "x"]


def test_answers_of_two_jobs_are_told_and_two_media_are_not_two_jobs(tmp_path):
    one = write(tmp_path / "1.jsonl", [row("a", fingerprint="f-1-2"), row("b", fingerprint="f-3-4")])
    same, other = (write(tmp_path / f"{job}.jsonl", [row("c", fingerprint=f"{job}-1-5")]) for job in "fg")
    assert merge([one, same], tmp_path / "o.jsonl").clean
    merged = merge([one, other], tmp_path / "o.jsonl")
    assert (merged.mixed, merged.clean) == (True, False)


def test_an_answer_goes_before_an_error(tmp_path):
    bad, good = row("a", None, error="TimeoutError"), row("a", "red")
    for order in ([bad, good], [good, bad], [bad, good, row("a", "blue")]):
        parts = [write(tmp_path / f"{i}.jsonl", [one]) for i, one in enumerate(order)]
        assert merge(parts, tmp_path / "o.jsonl").unequal == ("a",)
        assert read(tmp_path / "o.jsonl") == [good]


def test_questions_are_not_written_over(tmp_path):
    questions = ask(tmp_path, "a")
    before = questions.read_bytes()
    with pytest.raises(ValueError, match=f"out={questions} .*questions"):
        merge([write(tmp_path / "1.jsonl", [row("a")])], questions, questions)
    assert questions.read_bytes() == before


def test_a_torn_last_line_is_left_out_and_told(tmp_path):
    torn = write(tmp_path / "1.jsonl", [row("a")])
    torn.write_text(torn.read_text() + '{"id": "b", "ans')
    merged = merge([torn], tmp_path / "o.jsonl", ask(tmp_path, "ab"))
    assert (merged.torn, merged.gaps, merged.clean) == ((str(torn),), ("b",), False)
    assert read(tmp_path / "o.jsonl") == [row("a")]


def test_of_rays_folder_only_what_it_has_noted_as_written_counts(tmp_path):
    folder = tmp_path / "ray"
    whole, half = write(folder / "u_000.jsonl", [row("a")]), write(folder / "u_001.jsonl", [row("b")])
    (folder / "checkpoint").mkdir()
    assert answer_files(folder) == [whole, half]
    (folder / "checkpoint" / "u_001.pending.parquet").touch()
    assert answer_files(folder) == [whole]
    assert merge([folder], tmp_path / "o.jsonl", ask(tmp_path, "ab")).gaps == ("b",)


def test_parquet_out(tmp_path):
    rows = [row("a", frames=[0.1, 0.2], seconds={"read": 1.5}), row("b", "blue", choice="B")]
    merge([write(tmp_path / "1.jsonl", rows)], tmp_path / "out.parquet")
    from pyarrow.parquet import read_table

    found = read_table(tmp_path / "out.parquet").to_pylist()
    assert [one["id"] for one in found] == ["a", "b"]
    assert found[0]["frames"] == [0.1, 0.2]
    assert found[0]["choice"] is None
    mixed = write(tmp_path / "2.jsonl", [row("a", label=1), row("b", label=[2])])
    with pytest.raises(ValueError, match="'label' does not fit one kind"):
        merge([mixed], tmp_path / "bad.parquet")
    assert not list(tmp_path.glob("*bad*"))


@given(st.lists(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("xy"))), min_size=1, max_size=4))
def test_every_id_is_written_once_and_every_other_row_is_told(tmp_path_factory, shards):
    folder = tmp_path_factory.mktemp("m")
    paths = [write(folder / f"{i}.jsonl", [row(n, a) for n, a in shard]) for i, shard in enumerate(shards)]
    merged = merge(paths, folder / "out.jsonl")
    everything = [pair for shard in shards for pair in shard]
    answers = {name: [a for n, a in everything if n == name] for name, _ in everything}
    assert {one["id"]: one["answer"] for one in read(folder / "out.jsonl")} == {n: a[0] for n, a in answers.items()}
    assert set(merged.unequal) == {name for name, given in answers.items() if len(set(given)) > 1}
    assert set(merged.equal) == {n for n, given in answers.items() if len(given) > 1 and len(set(given)) == 1}


@pytest.mark.parametrize(
    ("make", "out", "error", "words"),
    [
        (lambda at: [], "o.jsonl", ValueError, "nothing to join"),
        (lambda at: [at / "none.jsonl"], "o.jsonl", OSError, "none.jsonl"),
        (lambda at: [at], "o.jsonl", OSError, "holds no .jsonl files"),
        (lambda at: [write(at / "1.jsonl", [[1]])], "o.jsonl", ValueError, "1.jsonl, line 1 is no answer"),
        (lambda at: [write(at / "1.jsonl", [{"answer": "a"}])], "o.jsonl", ValueError, "line 1 is no answer"),
        (lambda at: [ask(at, "a")], "o.jsonl", ValueError, "neither `answer` nor `error`, as questions have"),
        (lambda at: [write(at / "q.jsonl", [KNOWN])], "o.jsonl", ValueError, "it is a question, with the right answer"),
        (lambda at: [write(at / "1.jsonl", [{**row(1)}])], "o.jsonl", ValueError, "id=1; expected a text"),
        (lambda at: [write(at / "1.jsonl", [row("a")])], "o.csv", ValueError, "'.csv' is none of"),
        (lambda at: [write(at / "o.jsonl", [row("a")])], "o.jsonl", ValueError, "one of the files to join"),
        (lambda at: [write(at / "1.jsonl", [row("a")])], "no/o.jsonl", OSError, "no"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(tmp_path, make, out, error, words):
    answers = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=words):
        merge(answers, tmp_path / out)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_line_broken_in_the_middle_is_refused_with_its_number(tmp_path):
    path = write(tmp_path / "1.jsonl", [row("a"), row("b")])
    path.write_text(path.read_text().replace('{"id": "a"', '"id": "a"'))
    with pytest.raises(ValueError, match=r"line 1 is no JSON \(.*\); expected an object with `id`"):
        merge([path], tmp_path / "o.jsonl")


def test_the_command_tells_by_its_exit_code(tmp_path):
    answers, out = write(tmp_path / "1.jsonl", [row("a"), row("a")]), tmp_path / "o.jsonl"
    run = CliRunner().invoke(app, ["merge", str(answers), "--out", str(out)])
    assert run.exit_code == 0
    assert "1 answers in" in run.stdout
    assert "1: a found more than once" in run.stderr
    asked = ask(tmp_path, "abcdefgh")
    run = CliRunner().invoke(app, ["merge", str(answers), "--out", str(out), "--questions", str(asked)])
    assert run.exit_code == 1
    assert "7: b, c, d, e, f and 2 more not answered" in run.stderr
    assert CliRunner().invoke(app, ["merge", str(tmp_path / "no.jsonl"), "--out", str(out)]).exit_code == 1
