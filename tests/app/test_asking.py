"""Both answers, without a page: equal to those of plain calls, streamed, counted before, stopped, and reused."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from vtc.app import inference
from vtc.app.comparing import ALL, compared
from vtc.app.inference import MediumQuestion, ask, prepared
from vtc.app.streaming import InferenceLock, answers
from vtc.app.token_count import chosen
from vtc.inference.asking import Seconds, answer, prompt, report_on
from vtc.media.images import load_image
from vtc.reduction.api import reduced


def last(state, question):
    asked = prepared(state, question)
    return list(ask(state.inference, asked, question.max_new_tokens, threading.Event()))


@pytest.mark.parametrize("recipe", ["kcenter", "cls", "kcenter-mean", "resize", "tome", "layerwise", "kcenter+feather"])
def test_a_image_is_answered_as_plain_calls_answer_it(fresh_state, image, recipe):
    model, processor = fresh_state.image_model.model, fresh_state.image_model.processor
    question = MediumQuestion(str(image), "what is in the picture?", recipe, 0.25, False, 8)
    told = last(fresh_state, question)
    inputs = prompt(model, processor, load_image(image), question.text)
    assert told[-1].full.text == answer(model, processor, inputs, 8)
    with reduced(model, chosen(recipe, 0.25)):
        assert told[-1].short.text == answer(model, processor, inputs, 8)
    report = report_on(model, inputs, chosen(recipe, 0.25))
    assert (told[0].tokens.after, told[0].tokens.before) == (report.after, report.before)
    assert told[-1].short.report.after == report.after
    assert told[-1].kv_full - told[-1].kv_short == report.bytes_saved
    assert not hasattr(model, "vtc")


def test_a_second_question_reuses_the_encoding_and_answers_as_a_first_one(fresh_state, video):
    asked = MediumQuestion(str(video), "what is there at the end?", "video", 0.25, True, 8)
    before = last(fresh_state, asked)[-1]
    encoded = fresh_state.inference.features.encoded
    assert encoded > 0
    assert not before.full.reused
    assert not before.short.reused
    other = replace(asked, text="what shape is the orange object?")
    after = last(fresh_state, other)[-1]
    assert fresh_state.inference.features.encoded == encoded
    assert after.full.reused
    assert after.short.reused
    alone = last(type(fresh_state)(fresh_state.image_model, fresh_state.video_model), other)[-1]
    assert (after.full.text, after.short.text) == (alone.full.text, alone.short.text)
    assert not alone.full.reused


@pytest.mark.parametrize("recipe", ["cls", "tome"])
def test_cues_and_what_was_merged_in_the_encoder_are_reused_too(fresh_state, image, recipe):
    asked = MediumQuestion(str(image), "what is in the picture?", recipe, 0.25, False, 4)
    last(fresh_state, asked)
    other = replace(asked, text="what color is it?")
    again = last(fresh_state, other)[-1]
    assert again.full.reused
    assert again.short.reused
    alone = last(type(fresh_state)(fresh_state.image_model, fresh_state.video_model), other)[-1]
    assert not alone.short.reused
    assert again.short.text == alone.short.text
    assert again.short.report.after == alone.short.report.after


def test_each_recipe_encodes_for_itself(fresh_state, image):
    asked = MediumQuestion(str(image), "what is in the picture?", "kcenter", 0.25, False, 4)
    last(fresh_state, asked)
    for other in (replace(asked, recipe="stride"), replace(asked, keep=0.5)):
        pair = last(fresh_state, other)[-1]
        assert pair.full.reused
        assert not pair.short.reused


def test_counts_are_those_of_the_handle(fresh_state, video):
    loaded = fresh_state.video_model
    for recipe in ("kcenter", "video", "keyframes", "evs"):
        found = fresh_state.count(video, recipe, 0.3, video=True)
        asked = prepared(fresh_state, MediumQuestion(str(video), "what?", recipe, 0.3, True))
        with reduced(loaded.model, asked.start.recipe):
            assert sum(loaded.model.vtc.count(**asked.inputs)) == found.after
    assert fresh_state.count(video, "kcenter", 1.0, video=True).after == found.before


def test_an_answer_grows_and_its_numbers_are_of_it(fresh_state, image):
    told = last(fresh_state, MediumQuestion(str(image), "what is in the picture?", "kcenter", 0.25, False, 8))
    full = [pair.full for pair in told]
    assert [one.tokens for one in full] == sorted(one.tokens for one in full)
    assert full[-1].first > 0
    assert full[-1].rate > 0
    assert told[-1].done
    assert not told[0].done


def slow(state, image, **options):
    """An answer that cannot end by itself for a while, since nothing in it ends it."""
    loaded = state.image_model
    inputs = prompt(loaded.model, loaded.processor, load_image(image), "what is in the picture?")
    return answers(state.inference, loaded.model, loaded.processor, inputs, None, **options)


@pytest.fixture
def endless(fresh_state, monkeypatch):
    monkeypatch.setattr(fresh_state.image_model.model.generation_config, "eos_token_id", None)


def test_stop_ends_an_answer_and_frees_the_model(fresh_state, image, endless):
    stop = threading.Event()
    running = slow(fresh_state, image, max_new_tokens=512, stop=stop)
    next(running)
    stop.set()
    told = list(running)[-1]
    assert told.stopped
    assert told.tokens < 512
    assert fresh_state.inference.lock.acquire(timeout=60)
    fresh_state.inference.lock.release()


def test_an_iterator_that_is_closed_stops_its_answer(fresh_state, image, endless):
    running = slow(fresh_state, image, max_new_tokens=512)
    next(running)
    running.close()
    assert fresh_state.inference.lock.acquire(timeout=60)
    fresh_state.inference.lock.release()
    assert not hasattr(fresh_state.image_model.model, "vtc")


def test_who_waits_for_the_model_can_stop_too(fresh_state, image):
    stop = threading.Event()
    with fresh_state.inference.lock:
        running = slow(fresh_state, image, stop=stop)
        threading.Timer(0.05, stop.set).start()
        begun = time.perf_counter()
        assert [told.stopped for told in running] == [True]
        assert time.perf_counter() - begun < 60


def test_a_stop_before_the_second_answer_leaves_it_away(fresh_state, image):
    asked = prepared(fresh_state, MediumQuestion(str(image), "what is in the picture?", "kcenter", 0.25, False, 4))
    stop, seen = threading.Event(), []
    for pair in ask(fresh_state.inference, asked, 4, stop):
        seen.append(pair)
        stop.set()
    assert seen[-1].short.stopped
    assert seen[-1].short.report is None


def test_what_fails_in_the_thread_is_raised_where_the_answer_is_read(fresh_state, image):
    loaded = fresh_state.image_model
    with pytest.raises(AttributeError):
        list(answers(InferenceLock(), loaded.model, loaded.processor, {"input_ids": "no"}, None))
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        next(answers(InferenceLock(), loaded.model, loaded.processor, {}, None, max_new_tokens=0))


def test_sessions_stop_their_own_calls_alone(fresh_state):
    with fresh_state.call("a") as mine, fresh_state.call("b") as other:
        assert fresh_state.stop("a")
        assert mine.is_set()
        assert not other.is_set()
    assert not fresh_state.stop("a")
    assert not fresh_state.calls


def test_a_comparison_has_a_row_for_all_tokens_and_one_for_each_recipe(fresh_state, image):
    question = MediumQuestion(str(image), "what is in the picture?", "", 0.25, False, 4)
    tables = list(compared(fresh_state, question, ["kcenter", "stride", "kcenter"], threading.Event()))
    assert [row.recipe for row in tables[-1]] == [ALL, "kcenter", "stride"]
    assert [row.tokens for row in tables[-1]] == [196, 49, 49]
    assert len(tables) == 3
    assert [row.answer for row in tables[2]] == [row.answer for row in tables[1]]
    assert all(after.first != before.first for after, before in zip(tables[2], tables[1], strict=True))
    assert fresh_state.inference.features.encoded == 0
    assert tables[-1][0].kv > tables[-1][1].kv
    assert len(tables[-1][0].cells()) == 6


def test_warm_runs_are_taken_in_turns(fresh_state, image, monkeypatch):
    asked = prepared(fresh_state, MediumQuestion(str(image), "what is in the picture?", "kcenter", 0.25, False, 4))
    model, order, stop = asked.loaded.model, [], threading.Event()

    def noted(model, inputs):
        order.append("reduced" if hasattr(model, "vtc") else "all")
        return Seconds(float(len(order)), 1.0)

    monkeypatch.setattr(inference, "timed", noted)
    monkeypatch.setattr(inference, "ROUNDS", 3)
    calls = [(asked.inputs, None), (asked.inputs, asked.start.recipe)]
    full, short = inference.interleaved(fresh_state.inference, model, calls, stop)
    assert order == ["all", "reduced"] * 3
    assert [one.first for one in full] == [1, 3, 5]
    assert inference.middle(short) == Seconds(4, 1)
    stop.set()
    assert inference.interleaved(fresh_state.inference, model, calls, stop) == [[], []]
    monkeypatch.setattr(inference, "ROUNDS", 9)
    for name, rounds in (("PATIENCE", 3), ("LONG", 1)):
        monkeypatch.setattr(inference, name, -1.0)
        taken = inference.interleaved(fresh_state.inference, model, calls, threading.Event())
        assert [len(own) for own in taken] == [rounds, rounds]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": None}, "upload one first"),
        ({"text": "  "}, "is empty"),
        ({"recipe": "kcentre"}, "did you mean 'kcenter'"),
        ({"recipe": "/etc/passwd.json"}, "unknown"),
        ({"recipe": "video"}, "cannot run it on images"),
        ({"keep": 0.0}, "above 0"),
        ({"keep": float("nan")}, "above 0"),
        ({"keep": 2}, "above 0"),
        ({"path": __file__}, "test_asking.py is no image"),
        ({"path": __file__, "video": True, "recipe": "video"}, "test_asking.py is no video"),
    ],
)
def test_what_is_wrong_is_said_without_a_folder_of_the_server(fresh_state, image, change, says):
    question = replace(MediumQuestion(str(image), "what?", "kcenter", 0.25, False), **change)
    with pytest.raises(ValueError, match=says) as caught:
        prepared(fresh_state, question)
    assert "/tests/" not in str(caught.value)


def test_more_recipes_or_tokens_than_the_page_allows_are_refused(fresh_state, image):
    question = MediumQuestion(str(image), "what?", "", 0.25, False)
    for names in ([], [f"r{i}" for i in range(13)]):
        with pytest.raises(ValueError, match="choose 1 to 12"):
            next(compared(fresh_state, question, names, threading.Event()))
    with pytest.raises(ValueError, match="max_new_tokens=513"):
        replace(question, max_new_tokens=513)
