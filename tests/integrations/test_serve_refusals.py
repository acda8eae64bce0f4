"""What `vtc serve` refuses, in words and in OpenAI's form, and that nothing of it stays behind."""

from __future__ import annotations

import base64
import http.server
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.integrations.serving import (
    BUSY,
    ask,
    content,
    data_url,
    header,
    image,
    refusal,
    served,
    serving,
    user,
)
from vtc.embedded.samples import FOLDER, samples
from vtc.integrations.serve import inference_queue
from vtc.integrations.serve.answering import answered
from vtc.integrations.serve.limits import ServerLimits
from vtc.recipes.named import recipe

SAMPLE = samples()[0]
CLIP = FOLDER / "video1.mp4"


@pytest.fixture(scope="module")
def model():
    return served("tiny-llava", body=1 << 20, media=3, waiting=1, answer=16)


@pytest.fixture(scope="module")
def server(model):
    with serving(model) as server:
        yield server


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files, which a request must leave empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def url_of(address: str, kind: str = "image_url") -> list[dict]:
    return user({"type": kind, kind: {"url": address}}, "what is there?")


KEYFRAMES = {"schema": 2, "stages": [{"stage": "input/keyframes", "features": "timm:resnet18"}]}
SCORED = {"schema": 2, "stages": [{"stage": "input/keyframes", "strategy": "aks", "scorer": "clip:/srv/clip"}]}
WRONG = {
    "other model": (
        {"model": "gpt-4o"},
        404,
        "model='gpt-4o' is not served here; this server answers with 'tiny-llava'",
    ),
    "no such recipe": ({"vtc": {"recipe": "kcentre"}}, 400, "unknown recipe 'kcentre'; did you mean 'kcenter'"),
    "recipe not built": ({"vtc": {"recipe": "SparseVLM2"}}, 400, "unknown recipe"),
    "keep": ({"vtc": {"keep": 0}}, 400, "keep=0"),
    "keep text": ({"vtc": {"keep": "0.5"}}, 400, "keep='0.5' is a str"),
    "keep flag": ({"vtc": {"keep": True}}, 400, "keep=True"),
    "positions": ({"vtc": {"positions": "new"}}, 400, "positions='new'; expected one of original, compact"),
    "entry": ({"vtc": {"keeps": 1}}, 400, "vtc has unknown entries ['keeps']; expected some of"),
    "no object": ({"vtc": 0.5}, 400, "vtc=0.5; expected an object"),
    "recipe list": ({"vtc": {"recipe": ["kcenter"]}}, 400, "expected a name from `vtc recipes`"),
    "recipe of a model": ({"vtc": {"recipe": KEYFRAMES}}, 400, "'timm:resnet18'; a request names no other model"),
    "scorer": ({"vtc": {"recipe": SCORED}}, 400, "'clip:/srv/clip'; a request names no other model"),
    "recipe name": ({"vtc": {"recipe": {**recipe("stride").to_dict(), "name": "n" * 101}}}, 400, "at most 100 char"),
    "schema": ({"vtc": {"recipe": {"stages": []}}}, 400, "recipe has schema None"),
    "recipe that the model cannot run": ({"vtc": {"recipe": "globalcom2"}}, 400, "is guided by a thumbnail"),
    "processor": ({"mm_processor_kwargs": {"fps": 1}}, 400, "mm_processor_kwargs has ['fps']; only 'vtc' is taken"),
    "unknown field": ({"top_k": 5}, 400, "'top_k' is not supported; this server knows model, messages"),
    "n": ({"n": 2}, 400, "n=2 is not supported; leave it out, or pass 1"),
    "n of no number": ({"n": True}, 400, "n=True is not supported; leave it out, or pass 1"),
    "log probabilities of no choice": ({"logprobs": 0}, 400, "logprobs=0 is not supported; leave it out, or pass Fal"),
    "tools": ({"tools": [{"type": "function"}]}, 400, "is not supported; leave it out"),
    "stream": ({"stream": "yes"}, 400, "stream='yes' is a str; expected true or false"),
    "stream options": ({"stream_options": {"usage": True}}, 400, "stream_options={'usage': True}; expected"),
    "longest": ({"max_tokens": 17}, 400, "max_tokens=17; answers have at most 16 tokens here"),
    "shortest": ({"max_completion_tokens": 0}, 400, "max_completion_tokens=0 is below 1"),
    "temperature": ({"temperature": 2.5}, 400, "temperature=2.5 is out of range"),
    "top_p": ({"top_p": 0}, 400, "top_p=0 is out of range"),
    "seed": ({"seed": 1 << 64}, 400, "pass one below 2**63"),
    "stop": ({"stop": ["a", ""]}, 400, "stop=['a', '']; expected a text, or a list"),
    "no messages": ({"messages": []}, 400, "messages: expected a list of at least one message"),
    "role": ({"messages": [{"role": "tool", "content": "1"}]}, 400, "messages[0]: role='tool'; expected one of system"),
    "last": ({"messages": [*user("a"), {"role": "assistant", "content": "b"}]}, 400, "the last message is of role"),
    "empty": ({"messages": user("  ")}, 400, "the last message is empty"),
    "content": ({"messages": [{"role": "user", "content": None}]}, 400, "content=None; expected a text"),
    "part": ({"messages": user({"type": "input_audio"})}, 400, "messages[0].content[0]: type='input_audio'; expected"),
    "detail": (
        {"messages": user({"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}})},
        400,
        "detail='low' is not supported",
    ),
    "too many": ({"messages": user(*[image(SAMPLE.path)] * 4)}, 400, "messages hold 4 media, and at most 3 are taken"),
    "placeholder": ({"messages": user("see <image>")}, 400, "messages[0] holds '<image>', which stands for a medium"),
    "path": ({"messages": url_of(str(SAMPLE.path))}, 400, "files of the server are never read"),
    "file address": ({"messages": url_of(f"file://{SAMPLE.path}")}, 400, "files of the server are never read"),
    "video file": ({"messages": url_of(f"file://{CLIP}", "video_url")}, 400, "files of the server are never read"),
    "address": ({"messages": url_of("HTTP://127.0.0.1:1/a.png")}, 400, "which this server does not fetch"),
    "ftp": ({"messages": url_of("ftp://127.0.0.1/a.png")}, 400, "is no data: URL"),
    "not base64": ({"messages": url_of("data:image/png;base64,*")}, 400, "is no base64"),
    "plain data": ({"messages": url_of("data:image/png,abc")}, 400, "is no data: URL in base64"),
    "no image": ({"messages": url_of("data:image/png;base64,YWJj")}, 400, "messages[0].content[0] is no image"),
    "empty image": ({"messages": url_of("data:image/png;base64,")}, 400, "messages[0].content[0] is empty"),
    "video as image": ({"messages": url_of(data_url(CLIP))}, 400, "is a video; pass it as a part of type video_url"),
    "image as video": ({"messages": url_of(data_url(SAMPLE.path), "video_url")}, 400, "is no video; pass MP4"),
    "context": ({"messages": user("cat " * 9000)}, 400, "the model takes 8192 (max_position_embeddings)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_refused_in_words(server, temporary, name):
    fields, status, words = WRONG[name]
    body = {"model": "tiny-llava", "messages": user(image(SAMPLE.path), SAMPLE.question), **fields}
    response = httpx.post(f"{server.url}/chat/completions", json=body, timeout=BUSY)
    found = refusal(response)
    assert found[0] == status, found
    assert words in found[1]
    assert str(temporary) not in found[1]


def test_the_code_of_a_long_prompt_and_the_servers_own_bound(model):
    bounded = replace(model, limits=ServerLimits(prompt=150))
    with serving(bounded) as server:
        assert content(ask(server, user("is there a cat?"))) is not None
        error = ask(server, user(image(SAMPLE.path), SAMPLE.question)).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "max_prompt=150" in error["message"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"{", "application/json", 400, "Expecting property name"),
        (b"[]", "application/json", 400, "the body is a list"),
        (b"\xff", "application/json", 400, "can't decode"),
        (b"[" * 100_000, "application/json", 400, "nested too deeply"),
        (b"{}", "text/plain", 415, "send JSON"),
        (b"x" * ((1 << 20) + 1), "application/json", 413, "more than 1 MiB"),
    ],
    ids=["half", "list", "bytes", "nested", "text", "large"],
)
def test_a_body_that_is_no_request(server, body, kind, status, words):
    for given in (body, iter([body])):  # whose length is said, and whose length is not
        found = refusal(
            httpx.post(f"{server.url}/chat/completions", content=given, headers={"content-type": kind}, timeout=BUSY)
        )
        assert found[0] == status
        assert words in found[1]


def test_a_site_that_leads_to_this_machine_does_not_reach_the_server(server):
    for host, status in (("evil.example", 403), ("evil.example:80", 403), ("localhost:1", 200), ("[::1]:1", 200)):
        assert httpx.get(f"{server.url}/models", headers={"host": host}).status_code == status


def test_media_are_gone_behind_an_answer(server, temporary):
    kept, stock = [], tempfile.TemporaryDirectory
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "vtc.integrations.serve.application.TemporaryDirectory", lambda **k: kept.append(stock(**k)) or kept[-1]
        )
        assert content(ask(server, user(image(SAMPLE.path), SAMPLE.question)))
    assert len(kept) == 1
    assert not Path(kept[0].name).exists()


# Addresses, where they are allowed


@contextmanager
def site(answers):
    """A site on this machine: status, headers and body by path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def test_addresses_are_fetched_where_that_is_allowed_and_lead_to_no_file(model, temporary):
    answers = {
        "/a.png": (200, {}, SAMPLE.path.read_bytes()),
        "/moved": (302, {"Location": "/a.png"}, b""),
        "/file": (302, {"Location": f"file://{SAMPLE.path}"}, b""),
        "/ftp": (302, {"Location": "ftp://127.0.0.1:1/a.png"}, b""),
        "/large": (200, {}, b"x" * ((1 << 20) + 1)),
    }
    with site(answers) as address, serving(model, allow_urls=True) as server:
        wanted = content(ask(server, user(image(SAMPLE.path), "what is there?")))
        for path in ("/a.png", "/moved"):
            assert content(ask(server, url_of(address + path))) == wanted
        for path, words in (("/file", "not allowed"), ("/ftp", "unknown url type: ftp"), ("/large", "1048576 bytes")):
            status, found = refusal(ask(server, url_of(address + path)))
            assert (status, words in found) == (400, True), found
        for url in (f"file://{SAMPLE.path}", str(SAMPLE.path)):
            assert "files of the server are never read" in refusal(ask(server, url_of(url)))[1]
        assert refusal(ask(server, url_of("http://127.0.0.1:1/")))[0] == 400


# Who waits, and who goes


def wait_for(condition, seconds=BUSY):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@contextmanager
def half_sent(server):
    """A client that never finishes to send."""
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=BUSY) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        yield client


@contextmanager
def busy(server):
    """The thread of the model is at work for somebody."""
    free = threading.Event()
    server.queue._executor.submit(free.wait)
    try:
        yield free
    finally:
        free.set()


def test_more_than_may_wait_are_sent_away_and_come_back_later(server):
    wait_for(lambda: server.queue.inside == 0)
    with half_sent(server), half_sent(server):
        wait_for(lambda: server.queue.inside == 2)
        response = ask(server, user("is there a cat?"))
        assert refusal(response)[0] == 429
        assert "1 requests wait already, and this server answers one at a time" in refusal(response)[1]
        assert response.headers["retry-after"] == "5"
    wait_for(lambda: server.queue.inside == 0)
    assert content(ask(server, user("is there a cat?"))) is not None


@pytest.fixture
def answers(monkeypatch):
    """The requests that the model was asked."""
    asked = []
    monkeypatch.setattr(inference_queue, "answered", lambda *args: asked.append(args) or answered(*args))
    return asked


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_answered_to_a_client_that_is_gone(server, temporary, answers, stream):
    wait_for(lambda: server.queue.inside == 0)
    with busy(server):
        body = {"messages": user(image(SAMPLE.path), SAMPLE.question), "stream": stream}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/chat/completions", json=body, timeout=1)
        assert server.queue.inside == 1
        time.sleep(0.5)  # nothing outside shows that the server has seen the client leave
    wait_for(lambda: server.queue.inside == 0)
    assert answers == []
    assert content(ask(server, user("is there a cat?"))) is not None
    assert len(answers) == 1


def test_a_server_that_ends_waits_for_nobody(model, answers):
    found = []
    with serving(model) as server, busy(server) as free:
        thread = threading.Thread(target=lambda: found.append(ask(server, user("is there a cat?"))))
        thread.start()
        wait_for(lambda: server.queue.inside == 1)
        server.queue.end()
        assert refusal(ask(server, user("is there a cat?")))[0] == 503
        free.set()
        thread.join(BUSY)
        assert refusal(found[0]) == (503, "the server is shutting down")
        assert answers == []


def test_a_fault_of_ours_says_no_more_than_its_kind(model, capfd):
    broken = replace(model, processor=None)
    with serving(broken) as server:
        assert refusal(ask(server, user("?"))) == (500, "internal: AttributeError; the server's log has the rest")
    assert "Traceback" in capfd.readouterr().err


def test_a_damaged_video_names_its_place_and_no_folder(server, temporary):
    cut = base64.b64encode(CLIP.read_bytes()[:3000]).decode()
    status, words = refusal(ask(server, url_of(f"data:video/mp4;base64,{cut}", "video_url")))
    assert status == 400
    assert words.startswith("messages[0].content[0]")
    assert str(temporary) not in words


def test_notes_say_what_of_a_medium_was_left_out(server, tmp_path):
    from PIL import Image

    first, second = (Image.new("RGB", (64, 64), color) for color in ("red", "blue"))
    first.save(tmp_path / "two.tiff", save_all=True, append_images=[second])
    response = ask(server, user(image(tmp_path / "two.tiff"), "what color?"))
    assert response.json()["vtc"]["notes"] == ["messages[0].content[0] holds 2 frames; only the first one is read"]
    assert header(response)["before"] == 196


def test_a_request_names_no_file_of_the_server(server, tmp_path):
    recipe("stride").save(tmp_path / "mine.json")
    recipe("stride").save_pretrained(tmp_path)
    for path in (tmp_path / "mine.json", tmp_path):
        assert recipe(str(path)).name == "stride", "here it is one"
        status, words = refusal(ask(server, user("is there a cat?"), vtc={"recipe": str(path)}))
        assert (status, words.startswith("unknown recipe")) == (400, True)
