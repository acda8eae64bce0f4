"""The header of counts, between a client and a server that hands a request's settings to a processor in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace

import pytest

from vtc.integrations.vllm import request_report
from vtc.integrations.vllm.request_report import REQUESTS, ReportHeader, RequestCounts, refusal, with_number
from vtc.integrations.vllm.settings import NUMBER

ITEMS = [SimpleNamespace(before=196, after=49), SimpleNamespace(before=100, after=25)]
PATH = "/v1/chat/completions"


def state(overrides=None, trust=True, architecture="LlavaForConditionalGeneration"):
    return SimpleNamespace(
        args=SimpleNamespace(hf_overrides=overrides or {"vtc": {"keep": 0.25}}, trust_request_mm_kwargs=trust),
        engine_client=SimpleNamespace(model_config=SimpleNamespace(architecture=architecture)),
    )


class Application:
    """Reads a request, has its items counted in another thread, and answers in two pieces."""

    def __init__(self, items=ITEMS):
        self.items, self.bodies, self.scopes, self.called = items, [], [], 0

    async def __call__(self, scope, receive, send):
        self.called += 1
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            return
        self.scopes.append(scope)
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        await asyncio.get_running_loop().run_in_executor(None, self._count, body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    def _count(self, body):
        number = json.loads(body).get("mm_processor_kwargs", {}).get(NUMBER)
        if self.items and number:
            REQUESTS.put(number, "kcenter", 0.25, self.items)


def exchange(app, body, path=PATH, method="POST", pieces=1, leaves=False):
    """What an application is sent of a request, and sends back."""
    size = -(-len(body) // pieces) or 1
    parts = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
    coming = [
        {"type": "http.request", "body": part, "more_body": leaves or i + 1 < len(parts)}
        for i, part in enumerate(parts)
    ]
    back = []

    async def receive():
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message):
        back.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "app": SimpleNamespace(state=state())}

    async def run():
        await ReportHeader(app)(scope, receive, send)

    with_loop = threading.Thread(target=lambda: asyncio.run(run()))
    with_loop.start()
    with_loop.join()
    return back


def reported(back):
    values = [value for name, value in back[0]["headers"] if name == b"x-vtc-report"]
    return json.loads(values[0]) if values else None


@pytest.mark.parametrize("pieces", [1, 3])
def test_an_answer_carries_the_counts_of_its_own_request(pieces):
    app, sent = Application(), {"messages": [], "mm_processor_kwargs": {"vtc": {"keep": 0.25}}}
    back = exchange(app, json.dumps(sent).encode(), pieces=pieces)
    assert reported(back) == {"recipe": "kcenter", "keep": 0.25, "before": 296, "after": 74}
    assert [message.get("body") for message in back] == [None, b"a", b"b"]
    found = json.loads(app.bodies[0])
    assert found["mm_processor_kwargs"].pop(NUMBER)
    assert found == sent
    assert dict(app.scopes[0]["headers"])[b"content-length"] == str(len(app.bodies[0])).encode()


def test_each_request_has_a_number_of_its_own_which_no_client_chooses():
    app = Application()
    for _ in range(2):
        exchange(app, json.dumps({"mm_processor_kwargs": {NUMBER: "mine"}}).encode())
    numbers = [json.loads(body)["mm_processor_kwargs"][NUMBER] for body in app.bodies]
    assert len({*numbers, "mine"}) == 3
    assert all(REQUESTS.take(number) is None for number in numbers)  # nothing is kept of an answered one


def test_an_answer_about_no_media_has_no_header():
    assert reported(exchange(Application(items=[]), b'{"messages": []}')) is None


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"mm_processor_kwargs": 3}', b"", b"\xff", b"[" * 100_000])
def test_what_is_no_request_is_left_for_the_server_to_refuse(body):
    assert with_number(body, "7") == body


def test_other_addresses_and_methods_pass_untouched():
    for path, method in (("/v1/completions", "POST"), (PATH, "GET")):
        app = Application()
        exchange(app, b'{"a": 1}', path, method)
        assert app.bodies == [b'{"a": 1}']


def test_a_client_that_leaves_before_its_request_is_there_starts_nothing():
    app = Application()
    assert exchange(app, b'{"a": 1}', leaves=True) == []
    assert app.called == 0


def test_a_request_that_is_too_long_to_be_held_goes_on_as_it_comes_without_a_report(monkeypatch):
    monkeypatch.setattr(request_report, "LARGEST", 100)
    app, body = Application(), json.dumps({"messages": ["x" * 1000]}).encode()
    assert reported(exchange(app, body, pieces=10)) is None
    assert app.bodies == [body]
    assert reported(exchange(app, b'{"messages": []}', pieces=4))["after"] == 74


def test_counts_that_nobody_takes_are_forgotten_in_their_turn():
    counts = RequestCounts(most=2)
    for number in "abc":
        counts.put(number, "kcenter", 0.25, ITEMS)
    assert counts.take("a") is None
    assert counts.take("b")["after"] == counts.take("c")["after"] == 74


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (state({"other": 1}), "runs without vtc"),
        (state(trust=False), "--trust-request-mm-kwargs"),
        (state(architecture="Other"), "Other is served by vLLM alone"),
    ],
)
def test_a_server_that_could_report_nothing_does_not_start(found, words):
    app, back = Application(), []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        back.append(message)

    scope = {"type": "lifespan", "app": SimpleNamespace(state=found)}
    thread = threading.Thread(target=lambda: asyncio.run(ReportHeader(app)(scope, receive, send)))
    thread.start()
    thread.join()
    assert [message["type"] for message in back] == ["lifespan.startup.failed"]
    assert words in back[0]["message"]
    assert app.called == 0
    assert refusal(state()) is None
