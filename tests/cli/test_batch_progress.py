"""How far a batch is, on a terminal and in a log."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from vtc.cli.batch_progress import BatchState, batch_progress, duration


def state(at: list[float]) -> BatchState:
    return BatchState(clock=lambda: at[0])


def test_rows_rate_errors_and_time_left():
    at = [100.0]
    made = state(at)
    assert str(made) == "loading the model"
    at[0] = 160.0  # loading is no answering
    made.tell(20, 100)
    at[0] = 170.0
    made.tell(40, 100)
    made.note({"error": None})
    assert str(made) == "40 of 100 rows, 2 rows a second, 30 s left"
    made.note({"error": "OSError: no such file"})
    assert "40 of 100 rows, 1 with an error, 2 rows a second" in str(made)
    made.tell(100, 100)
    assert "left" not in str(made)


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.4, "7 s"), (61, "1 min"), (3599, "1 h 00 min"), (11100, "3 h 05 min")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_a_log_gets_a_line_now_and_then_whatever_comes():
    text = io.StringIO()
    with batch_progress(Console(file=text), every=0.05) as made:
        time.sleep(0.2)
        made.tell(3, 9)
        time.sleep(0.2)
    lines = text.getvalue().splitlines()
    assert lines[0] == "loading the model"
    assert lines[-1].startswith("3 of 9 rows")
    assert 4 <= len(lines) <= 9


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end():
    text = io.StringIO()
    with batch_progress(Console(file=text, force_terminal=True, width=100)) as made:
        made.tell(3, 9)
        time.sleep(0.7)
    assert "3/9" in text.getvalue()
