"""`vllm serve` as docs/serving.md prints it: two processes, its HTTP interface, and what it says of bad requests."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.vllm.engines import SETTINGS, asked
from vtc import embedded, reduced
from vtc.bench.serve_servers import served
from vtc.inference import asking
from vtc.inference.loading import load
from vtc.video.batch import Question, answer_batch

NAME = "tiny-llava"
FULL, KEPT = 196, 49
MIDDLEWARE = "vtc.integrations.vllm.request_report.ReportHeader"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    arguments = {
        **{name: SETTINGS[name] for name in ("dtype", "enforce_eager", "max_model_len", "gpu_memory_utilization")},
        "enable_prompt_tokens_details": True,
        "middleware": MIDDLEWARE,
    }
    log = tmp_path_factory.mktemp("server") / "log"
    with served(str(embedded.path(NAME)), {"recipe": "kcenter", "keep": 0.25}, arguments, log) as url:
        yield url


def sent(url, image, question, **more):
    """The status and the body of a chat completion's answer."""
    try:
        with posted(url, image, question, **more) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def posted(url, image, question, **more):
    """The response to a chat completion; without an image, about none."""
    content = [{"type": "text", "text": question}]
    if image is not None:
        file = io.BytesIO()
        image.save(file, "PNG")
        data = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        content.insert(0, {"type": "image_url", "image_url": {"url": data}})
    # The processor of transformers puts the first token before these prompts; vLLM's chat does so where it is asked.
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0, **more}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps({"model": str(embedded.path(NAME)), "add_special_tokens": True, **body}).encode(),
        {"Content-Type": "application/json"},
    )
    return urllib.request.urlopen(request, timeout=60)


def counted(url):
    """The counters of visual tokens at /metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as page:
        lines = [line.split() for line in page.read().decode().splitlines() if line.startswith("vtc_visual_tokens")]
    return {name: float(value) for name, value in lines if name.endswith("_total")}


def test_answers_usage_and_counters_are_those_of_a_quarter(server):
    before = counted(server)
    model, processor = load(NAME, dtype="float32")
    pairs = asked(4)
    for scene, question in pairs:
        with reduced(model, "kcenter", keep=0.25, positions="compact"):
            inputs = asking.prompt(model, processor, scene.image, question.question)
            expected, length = asking.answer(model, processor, inputs, 8), model.vtc.report.prompt_after[0]
        status, body = sent(server, scene.image, question.question)
        assert (status, body["choices"][0]["message"]["content"].strip()) == (200, expected)
        assert body["usage"]["prompt_tokens"] == length
        assert body["usage"]["prompt_tokens_details"]["multimodal_tokens"] == {"image": KEPT}
    gained = {name: value - before.get(name, 0) for name, value in counted(server).items()}
    assert gained == {
        "vtc_visual_tokens_full_total": FULL * len(pairs),
        "vtc_visual_tokens_kept_total": KEPT * len(pairs),
    }


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_says_what_its_own_request_saved(server, stream):
    scene, question = asked(1)[0]
    for keep, kept in ((None, KEPT), (0.1, 20), (1.0, FULL)):
        own = {} if keep is None else {"mm_processor_kwargs": {"vtc": {"keep": keep}}}
        for _ in range(2):  # the second time from the processor's cache
            with posted(server, scene.image, question.question, stream=stream, **own) as answer:
                report = json.loads(answer.headers["X-VTC-Report"])
                answer.read()
            assert report == {
                "recipe": "kcenter",
                "keep": 0.25 if keep is None else keep,
                "before": FULL,
                "after": kept,
            }


def test_an_answer_about_no_image_says_nothing_of_tokens(server):
    with posted(server, None, "what ?") as answer:
        assert answer.headers["X-VTC-Report"] is None


@pytest.mark.nightly  # a whole server; why it is refused is in tests/integrations/test_vllm_request_report.py
def test_a_server_that_could_report_nothing_does_not_start(tmp_path):
    arguments = {"dtype": "float32", "enforce_eager": True, "gpu_memory_utilization": 0.3, "middleware": MIDDLEWARE}
    log = tmp_path / "log"
    with pytest.raises(OSError, match="did not start"), served(str(embedded.path(NAME)), None, arguments, log):
        pass
    assert "X-VTC-Report: the engine runs without vtc; start it with --hf-overrides" in log.read_text()


def test_servers_that_share_a_port_report_each_their_own_requests(tmp_path):
    arguments = {
        **{name: SETTINGS[name] for name in ("dtype", "enforce_eager", "max_model_len", "gpu_memory_utilization")},
        "middleware": MIDDLEWARE,
        "api_server_count": 2,
    }
    scene, question = asked(1)[0]
    with served(str(embedded.path(NAME)), {"keep": 0.25}, arguments, tmp_path / "log") as url:
        before = counted(url).get("vtc_visual_tokens_full_total", 0)
        for _ in range(6):
            with posted(url, scene.image, question.question) as answer:
                report = json.loads(answer.headers["X-VTC-Report"])
            assert (report["before"], report["after"]) == (FULL, KEPT)
        assert counted(url)["vtc_visual_tokens_full_total"] - before == 6 * FULL


@pytest.mark.parametrize(("keep", "tokens"), [(0.1, 20), (1.0, FULL), (7, 7)])
def test_a_request_has_a_keep_of_its_own_whatever_the_cache_holds(server, keep, tokens):
    scene, question = asked(1)[0]
    for _ in range(2):
        own = {"mm_processor_kwargs": {"vtc": {"keep": keep}}}
        status, body = sent(server, scene.image, question.question, **own)
        assert (status, body["usage"]["prompt_tokens_details"]["multimodal_tokens"]) == (200, {"image": tokens})


@pytest.mark.parametrize(
    ("vtc", "words"),
    [
        ({"recipe": "kcentre"}, "unknown recipe 'kcentre'; did you mean 'kcenter'"),
        ({"keep": 1.5}, "keep=1.5"),
        ({"kep": 0.5}, "unknown entries ['kep']"),
        ({"recipe": "tome"}, "recipe 'tome' cannot be served by vLLM: its stages act inside a vision tower"),
        ({"recipe": "pyramiddrop"}, "inside the language model"),
        ({"recipe": "resize"}, "its vision tower takes images of one size"),
        ({"recipe": "/etc/passwd"}, "unknown recipe '/etc/passwd'"),
        ("kcenter", "vtc='kcenter'; expected an object"),
    ],
)
def test_a_bad_request_is_refused_with_the_sentence_and_the_server_goes_on(server, vtc, words):
    scene, question = asked(1)[0]
    status, body = sent(server, scene.image, question.question, mm_processor_kwargs={"vtc": vtc})
    assert (status, words in body["error"]["message"]) == (400, True), body
    assert sent(server, scene.image, question.question)[0] == 200


def test_more_tokens_than_the_context_holds_are_a_bad_request(server):
    scene, question = asked(1)[0]
    text = f"{question.question} " * 200
    status, body = sent(server, scene.image, text)
    assert status == 400
    assert "context length" in body["error"]["message"]


def test_an_engine_with_a_recipe_that_cannot_be_served_ends_before_it_loads_weights(tmp_path: Path):
    arguments = {"dtype": "float32", "enforce_eager": True, "gpu_memory_utilization": 0.3}
    log = tmp_path / "log"
    with (
        pytest.raises(OSError, match="did not start"),
        served(str(embedded.path(NAME)), {"recipe": "tome"}, arguments, log),
    ):
        pass
    said = log.read_text()
    assert "recipe 'tome' cannot be served by vLLM: its stages act inside a vision tower" in said
    assert "Loading weights took" not in said


def test_a_batch_by_this_endpoint_has_the_answers_of_a_batch_here(server, tmp_path):
    listed = []
    for number, (scene, question) in enumerate(asked(6)):
        path = tmp_path / f"{scene.seed}.png"
        scene.image.save(path)
        listed.append(Question(str(number), str(path), question.question, image=True))
    wanted = {"model": str(embedded.path(NAME)), "recipe": "kcenter", "keep": 0.1, "max_new_tokens": 8}
    answer_batch(listed, tmp_path / "here.jsonl", **{**wanted, "dtype": "float32"})
    more = {"endpoint": f"{server}/v1", "engine_args": {"add_special_tokens": True}}
    summary = answer_batch(listed, tmp_path / "there.jsonl", **wanted, **more)
    assert summary.exit_code == 0
    here, there = (
        {row["id"]: row for row in map(json.loads, (tmp_path / f"{name}.jsonl").read_text().splitlines())}
        for name in ("here", "there")
    )
    assert [(there[i]["tokens_full"], there[i]["tokens_kept"]) for i in sorted(there)] == [(FULL, 20)] * 6
    assert sum(here[i]["answer"] == there[i]["answer"] for i in here) >= 5  # positions are compact there
