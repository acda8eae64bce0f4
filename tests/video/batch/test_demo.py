"""The demo of batch video QA runs, and goes on where it was."""

import runpy
import sys
from pathlib import Path

DEMO = Path(__file__).parents[3] / "demos" / "batch_video_qa.py"


def test_the_demo_answers_and_started_again_answers_nothing_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(DEMO), str(tmp_path / "out")])
    runpy.run_path(str(DEMO))
    first = capsys.readouterr().out
    assert "12 rows, 12 answered; 12 rows in this run" in first
    assert first.count("visual tokens)") == 12
    runpy.run_path(str(DEMO))
    again = capsys.readouterr().out
    assert "12 answered; 0 rows in this run" in again
    assert again.splitlines()[-12:] == first.splitlines()[-12:]
