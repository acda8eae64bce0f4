"""Numbers as the page writes them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from vtc.app import formatting, inference
from vtc.app.inference import Pair
from vtc.app.media import RecentCache
from vtc.app.streaming import StreamState
from vtc.app.token_count import Count, chosen
from vtc.inference.asking import Seconds

REPORT = SimpleNamespace(after=49)
"""What the headline reads of a report."""


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (368640, "360 KiB"), (3 << 30, "3 GiB")]
)
def test_bytes(count, text):
    assert formatting.size(count) == text


def test_times_and_rates():
    assert [formatting.seconds(s) for s in (None, 0.0625, 1.5)] == [formatting.NONE, "62 ms", "1.50 s"]
    assert [formatting.rate(r) for r in (None, 12.34)] == [formatting.NONE, "12.3"]


def test_before_a_run_the_table_has_what_is_known_by_arithmetic():
    pair = Pair(StreamState(), StreamState(), chosen("stride", 0.25), Count(49, 196), 207, 1000)
    rows = {row[0]: row[1:] for row in formatting.table(pair)}
    assert rows["visual tokens"] == ["196", "49"]
    assert rows["prompt tokens"] == ["207", "60"]
    assert rows["time to first token"] == [formatting.NONE] * 2
    assert rows["KV cache of the prompt"] == ["1000 B", formatting.NONE]


@pytest.mark.parametrize(
    ("full", "short", "apart", "says"),
    [
        (0.4, 0.2, True, "**2.0 x sooner** to the first token"),
        (0.2, 0.4, True, "**2.0 x later** to the first token"),
        (0.2, 0.199, True, "as soon to the first token"),
        (0.4, 0.2, False, "within what these runs differ by"),
    ],
)
def test_the_headline_says_sooner_or_later_only_where_runs_lie_apart(full, short, apart, says):
    pair = Pair(StreamState(), StreamState(report=REPORT), chosen("stride", 0.25), Count(49, 196), 207, 1000, 250)
    headline = formatting.headline(replace(pair, times=(Seconds(full, 0.1), Seconds(short, 0.1)), apart=apart))
    assert headline.startswith("**4.0 x fewer visual tokens** (49 of 196), ")
    assert says in headline
    assert headline.endswith("4.0 x less KV cache (250 B of 1000 B)")


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ((1, 2, 3, 4), (5, 6, 7, 8), True),
        ((5, 6, 7, 8), (1, 2, 3, 4), True),
        ((1, 2, 3, 4), (1, 2, 3, 4), False),
        ((1, 1, 1, 9), (2, 2, 2, 2), False),
        ((1, 1, 1, 1, 9), (2, 2, 2, 2, 2), True),
    ],
)
def test_runs_lie_apart_where_their_middle_halves_do(one, other, apart):
    assert inference._apart(one, other) == apart


def test_notes_show_marks_as_they_are():
    assert formatting.notes(["<b>a*b</b>"]) == "- &lt;b&gt;a\\*b&lt;/b&gt;"
    pair = Pair(StreamState(stopped=True), StreamState(), chosen("stride", 0.25), Count(1, 2), 3, 4)
    assert formatting.notes([], pair) == "- stopped"
    assert formatting.notes([]) == ""


def test_decoder_recipes_follow_their_own_schedule():
    assert chosen("fastv", 0.1).keep == 1.0
    assert chosen("kcenter", 0.1).keep == 0.1
    assert chosen("kcenter", 0.1, frames_are_images=True).images_as == "frames"


def test_what_is_held_is_made_once_and_the_oldest_leaves():
    held, made = RecentCache(2), []
    for key in "aabcab":
        held.get(key, lambda key=key: made.append(key) or key)
    assert made == ["a", "b", "c", "a", "b"]
    with pytest.raises(ZeroDivisionError):
        held.get("x", lambda: 1 / 0)
    assert held.get("x", lambda: 5) == 5
