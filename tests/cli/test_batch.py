"""`vtc batch` before a model is loaded: media that are missing, columns that are misspelled, and its summary."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.test_main import vtc_command
from vtc.embedded.samples import samples
from vtc.video.batch.questions import read_questions
from vtc.video.batch.summary import NAMED, Tally


def questions(tmp_path, *rows):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_check_reads_the_questions_and_looks_for_the_media_and_answers_nothing(tmp_path):
    there = {"id": 1, "image": str(samples()[0].path), "question": "what?"}
    file = questions(tmp_path, there, {"id": 2, "video": "gone.mp4", "question": "what?"}, {**there, "id": 3})
    result = vtc_command("batch", file, "--out", tmp_path / "out.jsonl", "--check")
    assert result.exit_code == 1
    assert result.text == "3 questions about 2 media: 1 of the media are missing"
    assert "1 of 2 media are missing, 1 of 3 questions:" in result.error
    assert str(tmp_path / "gone.mp4") in result.error
    assert not (tmp_path / "out.jsonl").exists()
    assert vtc_command("batch", questions(tmp_path, there), "--out", tmp_path / "out.jsonl", "--check").exit_code == 0


def test_missing_media_are_said_before_a_model_is_loaded(tmp_path):
    file = questions(tmp_path, *({"id": i, "video": f"{i}.mp4", "question": "what?"} for i in range(5)))
    result = vtc_command("batch", file, "--out", tmp_path / "out.jsonl", "--model", tmp_path)
    assert result.exit_code == 2
    note, error = result.error.split("error:")
    assert "5 of 5 media are missing" in note
    assert note.count(".mp4") == 3
    assert "config.json" in error


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 1, "vidoe": "a.mp4", "question": "q"}, "neither 'video' nor 'image' is there (columns: 'id', 'vidoe',"),
        ({"id": 1, "vidoe": "a.mp4", "question": "q"}, "is 'vidoe' meant to be 'video'?"),
        ({"idx": 1, "video": "a.mp4", "question": "q"}, "the column 'id' is missing (columns: 'idx'"),
        (
            {"id": 1, "video": "a.mp4", "qestion": "q"},
            "'question' is missing (columns: 'id', 'video', 'qestion'; is 'qest",
        ),
        ({"id": 1, "video": "a.mp4", "question": " "}, "the column 'question' is empty"),
        ({"id": 1, "video": "a.mp4", "image": "a.png", "question": "q"}, "both 'video' and 'image' are there"),
    ],
)
def test_a_wrong_column_is_answered_with_those_that_are_there_and_the_nearest(tmp_path, row, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_questions(questions(tmp_path, row))


def test_a_summary_names_the_first_rows_that_failed():
    tally = Tally({str(i): "m" for i in range(9)})
    for i in range(9):
        tally.add(
            {"id": str(i), "error": f"OSError: {'x' * 300} {i}" if i > 1 else None, "tokens_full": 9, "tokens_kept": 3}
        )
    lines = str(tally.summary(fresh=9, seconds=1.0)).splitlines()
    first = lines.index("errors: 7 OSError")
    assert [line.split(":")[0].strip() for line in lines[first + 1 : first + 1 + NAMED]] == ["2", "3", "4"]
    assert all(len(line) < 220 and line.endswith("...") for line in lines[first + 1 : first + 1 + NAMED])
    assert lines[-1] == f"  and {7 - NAMED} more, each in the row of its id"
