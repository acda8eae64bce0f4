"""`vtc serve` over HTTP: its answers are those of the wrapped model, and what it says of them is its report."""

from __future__ import annotations

import json
import threading

import httpx
import pytest
import torch

from tests.integrations.serving import (
    ask,
    content,
    header,
    image,
    refusal,
    served,
    serving,
    streamed,
    text,
    user,
    video,
)
from vtc import reduced
from vtc.embedded.samples import FOLDER, samples, video_samples
from vtc.inference.asking import answer, prompt
from vtc.inference.loading import load
from vtc.media.images import load_image
from vtc.recipes.named import recipe
from vtc.video.reading.sampling import Sampling

SAMPLE, OTHER = samples()[0], samples()[3]
CLIP = FOLDER / "video1.mp4"
QUESTION = video_samples()[0].question


@pytest.fixture(scope="module")
def llava():
    with serving(served("tiny-llava")) as server:
        yield server


@pytest.fixture(scope="module")
def qwen():
    with serving(served("tiny-qwen")) as server:
        yield server


@pytest.fixture(scope="module")
def own():
    """Models that no server has."""
    return {name: load(name, device="cpu") for name in ("tiny-llava", "tiny-qwen")}


def expected(own, name, inputs, chosen="kcenter", **settings):
    """The answer and the report of a model that is wrapped here."""
    model, processor = own[name]
    with reduced(model, chosen, **settings):
        return answer(model, processor, inputs), model.vtc.report


def templated(own, name, messages):
    _, processor = own[name]
    return processor.apply_chat_template(
        [messages], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


def sample_inputs(own, name, sample):
    return prompt(*own[name], load_image(sample.path), sample.question)


# Answers, counts and reports


@pytest.mark.parametrize("name", ["llava", "qwen"])
@pytest.mark.parametrize("sample", [SAMPLE, OTHER], ids=["first", "last"])
def test_an_answer_is_that_of_the_wrapped_model(request, own, name, sample):
    server = request.getfixturevalue(name)
    response = ask(server, user(image(sample.path), sample.question))
    inputs = sample_inputs(own, f"tiny-{name}", sample)
    words, report = expected(own, f"tiny-{name}", inputs, keep=0.25)
    assert content(response) == words
    data = response.json()
    assert (data["object"], data["model"]) == ("chat.completion", f"tiny-{name}")
    assert data["choices"][0]["finish_reason"] == "stop"
    assert report.after < report.before
    (short,), whole = report.prompt_after, inputs["input_ids"].shape[1]
    made = data["usage"]["completion_tokens"]
    assert data["usage"] == {
        "prompt_tokens": short,
        "completion_tokens": made,
        "total_tokens": short + made,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "visual_tokens": report.after,
            "visual_tokens_full": report.before,
            "prompt_tokens_full": whole,
        },
    }
    counts = {"before": report.before, "after": report.after, "prompt_before": whole, "prompt_after": short}
    assert header(response) == {"recipe": "kcenter", "keep": 0.25, **counts}
    assert data["vtc"] == {**header(response), "notes": []}


@pytest.mark.parametrize("fields", [{"vtc": {"keep": 0.1}}, {"mm_processor_kwargs": {"vtc": {"keep": 0.1}}}])
def test_keep_is_a_requests_own(llava, own, fields):
    response = ask(llava, user(image(SAMPLE.path), SAMPLE.question), **fields)
    words, report = expected(own, "tiny-llava", sample_inputs(own, "tiny-llava", SAMPLE), keep=0.1)
    assert (content(response), header(response)["after"]) == (words, report.after)
    assert header(ask(llava, user(image(SAMPLE.path), SAMPLE.question)))["keep"] == 0.25


def test_the_field_goes_before_what_is_meant_for_processors(llava):
    both = {"vtc": {"keep": 0.1}, "mm_processor_kwargs": {"vtc": {"keep": 0.5, "recipe": "stride"}}}
    response = ask(llava, user(image(SAMPLE.path), SAMPLE.question), **both)
    assert (header(response)["recipe"], header(response)["keep"]) == ("stride", 0.1)


@pytest.mark.parametrize("keep", [1, 1.0])
def test_all_tokens_are_the_stock_model(llava, own, keep):
    response = ask(llava, user(image(SAMPLE.path), SAMPLE.question), vtc={"keep": keep})
    model, processor = own["tiny-llava"]
    inputs = sample_inputs(own, "tiny-llava", SAMPLE)
    assert content(response) == answer(model, processor, inputs)
    assert response.json()["usage"]["prompt_tokens"] == inputs["input_ids"].shape[1]
    assert header(response)["before"] == header(response)["after"]


def test_a_recipe_is_a_requests_own_by_name_or_as_its_file_holds_it(llava, own):
    messages, inputs = user(image(SAMPLE.path), SAMPLE.question), sample_inputs(own, "tiny-llava", SAMPLE)
    named = ask(llava, messages, vtc={"recipe": "kcenter-mean", "positions": "compact"})
    words, _ = expected(own, "tiny-llava", inputs, "kcenter-mean", keep=0.25, positions="compact")
    assert (content(named), header(named)["keep"]) == (words, 0.25)
    held = ask(llava, messages, vtc={"recipe": recipe("stride", keep=0.5).to_dict()})
    assert (header(held)["recipe"], header(held)["keep"]) == ("stride", 0.5)
    late = ask(llava, messages, vtc={"recipe": "pyramiddrop"})
    words, report = expected(own, "tiny-llava", inputs, "pyramiddrop")
    assert content(late) == words
    assert header(late)["mean_in_layers"] == round(report.decoder.mean, 1) < header(late)["after"]


def test_a_video_that_is_sent_is_answered_about(qwen, own):
    model, processor = own["tiny-qwen"]
    sampling = Sampling(fps=2.0, frames=64)
    frames, _ = sampling.read(CLIP, sampling.candidates(sampling.probe(CLIP)))
    words, report = expected(own, "tiny-qwen", prompt(model, processor, frames, QUESTION), "video", keep=0.25)
    response = ask(qwen, user(video(CLIP), QUESTION), vtc={"recipe": "video"})
    assert content(response) == words
    assert (header(response)["before"], header(response)["after"]) == (report.before, report.after)


def test_frames_are_one_item_where_the_model_takes_them_as_images(llava, own):
    model, processor = own["tiny-llava"]
    sampling = Sampling(fps=2.0, frames=64)
    frames, _ = sampling.read(CLIP, sampling.candidates(sampling.probe(CLIP)))
    inputs = prompt(model, processor, frames, QUESTION)
    words, report = expected(own, "tiny-llava", inputs, "video", keep=0.1, images_as="frames")
    response = ask(llava, user(video(CLIP), QUESTION), vtc={"recipe": "video", "keep": 0.1})
    assert (content(response), header(response)["after"]) == (words, report.after)
    status, words = refusal(ask(llava, user(image(SAMPLE.path), video(CLIP), QUESTION)))
    assert (status, "ask about one video alone" in words) == (400, True)


# Conversations


def test_text_alone_is_answered(llava, own):
    response = ask(llava, [{"role": "user", "content": "is there a cat?"}])
    words, _ = expected(own, "tiny-llava", templated(own, "tiny-llava", user("is there a cat?")))
    assert content(response) == words
    assert header(response)["before"] == 0
    assert response.json()["usage"]["prompt_tokens"] == header(response)["prompt_before"] > 0


def test_a_conversation_of_several_turns_and_images(qwen, own):
    said = [{"role": "system", "content": "be brief"}, {"role": "assistant", "content": "a cup"}]
    asked = [
        said[0],
        *user(image(SAMPLE.path), "what is there?"),
        said[1],
        *user(SAMPLE.question, image(OTHER.path)),
    ]
    turns = [
        {"role": "system", "content": [text("be brief")]},
        {"role": "user", "content": [{"type": "image", "image": load_image(SAMPLE.path)}, text("what is there?")]},
        {"role": "assistant", "content": [text("a cup")]},
        {"role": "user", "content": [text(SAMPLE.question), {"type": "image", "image": load_image(OTHER.path)}]},
    ]
    words, report = expected(own, "tiny-qwen", templated(own, "tiny-qwen", turns), keep=0.25)
    response = ask(qwen, asked)
    assert content(response) == words
    assert len(report.items) == 2
    assert (header(response)["prompt_after"],) == report.prompt_after


def test_a_turn_that_the_chat_template_leaves_out_is_refused(own):
    model = served("tiny-llava")
    template = model.processor.chat_template
    model.processor.chat_template = "{% for message in messages %}{% if message['role'] == 'user' %}" + (
        "{{ message['content'][0]['text'] }}{% endif %}{% endfor %}"
    )
    with serving(model) as server:
        asked = [{"role": "system", "content": "be brief"}, *user("is there a cat?")]
        assert refusal(ask(server, asked)) == (
            400,
            "messages[0], of role 'system': the model's chat template leaves its text out; put it into a turn of the "
            "user",
        )
        model.processor.chat_template = "{{ raise_exception('users must come first') }}"
        assert "refuses them: users must come first" in refusal(ask(server, asked))[1]
        model.processor.chat_template = template
        assert content(ask(server, asked))


# Streams


def test_a_stream_is_the_answer_in_pieces(llava):
    messages = user(image(SAMPLE.path), "what does the plate say?")
    whole = ask(llava, messages)
    response = ask(llava, messages, stream=True, stream_options={"include_usage": True})
    first, *pieces, last, counts = streamed(response)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(piece["choices"][0]["delta"]["content"] for piece in pieces) == content(whole)
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert (counts["choices"], counts["usage"]) == ([], whole.json()["usage"])
    assert {event["id"] for event in (first, *pieces, last, counts)} == {first["id"]}
    assert header(response) == header(whole)
    assert last["vtc"] == whole.json()["vtc"]
    assert all(event["choices"] for event in streamed(ask(llava, messages, stream=True))), "no counts unasked"


def test_what_is_refused_is_no_stream(llava):
    response = ask(llava, user(image(SAMPLE.path), "?"), stream=True, vtc={"recipe": "globalcom2"})
    status, words = refusal(response)
    assert (status, "is guided by a thumbnail" in words) == (400, True)


# How answers are made


def test_an_answer_ends_where_it_is_asked_to(llava):
    messages = user(image(SAMPLE.path), SAMPLE.question)
    words = content(ask(llava, messages))
    cut = ask(llava, messages, max_tokens=1).json()
    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 1)
    assert words.startswith(cut["choices"][0]["message"]["content"])
    stopped = ask(llava, messages, stop=[words[1:]]).json()["choices"][0]
    assert (stopped["message"]["content"], stopped["finish_reason"]) == (words[:1], "stop")
    pieces = streamed(ask(llava, messages, stop=words[1:], stream=True))[1:-1]
    assert "".join(piece["choices"][0]["delta"]["content"] for piece in pieces) == words[:1]


def test_drawn_answers_come_again_by_their_seed(llava):
    messages = user(image(SAMPLE.path), SAMPLE.question)
    state = torch.get_rng_state()
    first, again = ([content(ask(llava, messages, temperature=2, seed=s)) for s in range(6)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 1
    assert torch.equal(state, torch.get_rng_state())
    assert content(ask(llava, messages, temperature=2, top_p=1e-6)) == content(ask(llava, messages))


def test_several_callers_get_their_own(llava, own):
    wanted = [(sample, keep) for sample in (SAMPLE, OTHER) for keep in (0.1, 0.5, 1.0)]
    found = {}

    def call(part):
        for sample, keep in part:
            found[sample.file, keep] = ask(llava, user(image(sample.path), sample.question), vtc={"keep": keep})

    threads = [threading.Thread(target=call, args=(part,)) for part in (wanted, wanted[::-1])]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for sample, keep in wanted:
        words, report = expected(own, "tiny-llava", sample_inputs(own, "tiny-llava", sample), keep=keep)
        response = found[sample.file, keep]
        assert (content(response), header(response)["after"]) == (words, report.after)


# What else there is


def test_models_and_health(llava):
    card = httpx.get(f"{llava.url}/models").json()["data"]
    assert [one["id"] for one in card] == ["tiny-llava"]
    assert card[0]["max_model_len"] == 8192
    assert httpx.get(f"{llava.url}/models/tiny-llava").json() == card[0]
    assert refusal(httpx.get(f"{llava.url}/models/other"))[0] == 404
    assert httpx.get(llava.url.removesuffix("/v1") + "/health").json() == {
        "status": "ok",
        "model": "tiny-llava",
        "requests": 0,
    }
    assert "POST /v1/chat/completions" in refusal(httpx.get(f"{llava.url}/completions"))[1]
    assert refusal(httpx.get(f"{llava.url}/chat/completions"))[0] == 405


def test_a_model_is_left_as_it_was_and_each_answer_is_one_line(llava):
    ask(llava, user(image(SAMPLE.path), SAMPLE.question))
    assert not hasattr(llava.queue.served.model, "vtc")
    assert llava.lines[-1].startswith("kcenter, keep 0.25: 49 of 196 visual tokens, ")


def test_a_header_is_one_line_of_ascii(llava):
    held = {**recipe("stride").to_dict(), "name": "a\r\nX-Other: ä"}
    response = ask(llava, user(image(SAMPLE.path), "?"), vtc={"recipe": held})
    assert header(response)["recipe"] == "a\r\nX-Other: ä"
    assert "x-other" not in response.headers
    assert json.loads(response.text)["vtc"]["recipe"] == "a\r\nX-Other: ä"
