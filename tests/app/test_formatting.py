"""Numbers as the page writes them."""

from __future__ import annotations

import pytest

from vtc.app import formatting
from vtc.app.inference import Pair
from vtc.app.media import RecentCache
from vtc.app.streaming import StreamState
from vtc.app.token_count import Count, chosen


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
