"""A question about a video that is asked by a strategy: answers and calls as of plain ones, numbers, and stopping."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from vtc.app.formatting import call_notes, strategy_table
from vtc.app.inference import MediumQuestion, prepared
from vtc.app.strategy import ShownVideo, ask_by_strategy
from vtc.app.token_count import chosen
from vtc.app.video_tab import VideoTab
from vtc.video.qa.strategies import Asker
from vtc.video.qa.strategies import strategy as named

ASKED = MediumQuestion("", "what is there at the end?", "video", 0.25, True, 6)
STRATEGIES = ("decompose", "segment-thought")


def told(state, video, strategy, stop=None):
    """The pairs of an answer by a strategy."""
    asked = prepared(state, replace(ASKED, path=str(video)))
    return list(ask_by_strategy(state.inference, asked, ASKED.text, strategy, 6, stop or threading.Event())), asked


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_both_answers_are_those_of_plain_calls(fresh_state, video, strategy):
    pairs, asked = told(fresh_state, video, strategy)
    model, processor = fresh_state.video_model.model, fresh_state.video_model.processor
    for recipe, said, calls in (
        (None, pairs[-1].full, pairs[-1].full_calls),
        (chosen("video", 0.25), pairs[-1].short, pairs[-1].short_calls),
    ):
        asker = Asker(
            model,
            processor,
            ShownVideo(asked.inputs, recipe, asked.opened.medium, 2, asked.start.tokens.before),
            ASKED.text,
            6,
        )
        assert named(strategy).run(asker, ASKED.text) == said.text
        assert [(call.purpose, call.prompt, call.text) for call in calls] == [
            (call.purpose, call.prompt, call.text) for call in asker.calls
        ]
        assert [call.tokens_kept for call in calls] == [call.tokens_kept for call in asker.calls]
    assert pairs[-1].done
    assert not pairs[0].done
    assert len(pairs) > len(pairs[-1].full_calls)
    assert not hasattr(model, "vtc")


def test_numbers_are_over_all_calls_and_notes_tell_them(fresh_state, video):
    pair = told(fresh_state, video, "segment-thought")[0][-1]
    table = {name: cells for name, *cells in strategy_table(pair)}
    assert table["calls of the model"] == [str(len(pair.full_calls)), str(len(pair.short_calls))]
    full, short = (int(cell.replace(",", "")) for cell in table["visual tokens, all calls"])
    assert 0 < short < full == sum(call.tokens_full for call in pair.short_calls)
    lines = call_notes(pair)
    assert lines[0].startswith("all tokens, describe part 1 of 3: ")
    assert lines[-1].startswith("reduced, answer: ")


def test_the_tab_shows_calls_and_the_timeline(fresh_state, video):
    shown = list(VideoTab(fresh_state).ask_video(str(video), ASKED.text, "video", 0.25, 6, "segment-thought", object()))
    full, short, headline, numbers, notes, image, _ = shown[-1]
    assert full
    assert short
    assert "x fewer visual tokens** over all calls" in headline
    assert numbers[0][0] == "calls of the model"
    assert "describe part 2 of 3" in notes
    assert image.width == 1360


@pytest.mark.parametrize("after", [0, 1])
def test_stopped_it_ends_with_the_call_in_hand(fresh_state, video, after):
    asked, stop = prepared(fresh_state, replace(ASKED, path=str(video))), threading.Event()
    seen = []
    for pair in ask_by_strategy(fresh_state.inference, asked, ASKED.text, "segment-thought", 6, stop):
        seen.append(pair)
        if len(pair.full_calls) >= after:
            stop.set()
    assert seen[-1].done
    assert seen[-1].short.stopped
    assert len(seen[-1].full_calls) <= after + 1
    assert fresh_state.inference.lock.acquire(timeout=5)
    fresh_state.inference.lock.release()


def test_what_goes_wrong_in_a_call_reaches_the_reader(fresh_state, video):
    with pytest.raises(ValueError, match="unknown strategy 'no'"):
        told(fresh_state, video, "no")
    asked = prepared(fresh_state, replace(ASKED, path=str(video)))
    with pytest.raises(ValueError, match="max_new_tokens=-1"):
        list(ask_by_strategy(fresh_state.inference, asked, ASKED.text, "direct", -1, threading.Event()))
