"""A server of `vtc serve` in this process, and requests to it over HTTP."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx

from vtc.inference.loading import load
from vtc.integrations.serve.answering import ServedModel
from vtc.integrations.serve.limits import ServerLimits
from vtc.integrations.serve.request_recipe import RecipeDefaults
from vtc.integrations.serve.server import ChatServer

BUSY = 120
"""Seconds that a busy machine may take for one answer."""


def served(name: str, keep: float = 0.25, **limits) -> ServedModel:
    return ServedModel(name, *load(name, device="cpu"), RecipeDefaults.of(keep=keep), ServerLimits(**limits))


@contextmanager
def serving(model: ServedModel, **options):
    """A server of `model` that answers while the block runs."""
    started, lines = threading.Event(), []
    server = ChatServer(model, port=0, say=lines.append, on_start=lambda url: started.set(), **options)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(BUSY)
        server.lines = lines
        yield server
    finally:
        server.stop()
        thread.join(BUSY)
        assert not thread.is_alive()


def data_url(path: Path, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def image(path: Path) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(path)}}


def video(path: Path) -> dict:
    return {"type": "video_url", "video_url": {"url": data_url(path, "video/mp4")}}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def user(*parts: dict | str) -> list[dict]:
    return [{"role": "user", "content": [text(part) if isinstance(part, str) else part for part in parts]}]


def ask(server: ChatServer, messages, **fields) -> httpx.Response:
    body = {"model": server.queue.served.name, "messages": messages, **fields}
    return httpx.post(f"{server.url}/chat/completions", json=body, timeout=BUSY)


def content(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and sentence of an error, in OpenAI's form."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["message"]


def header(response: httpx.Response) -> dict:
    return json.loads(response.headers["x-vtc-report"])


def streamed(response: httpx.Response) -> list[dict]:
    """The events of a stream, which ends as OpenAI's do."""
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert response.headers["content-type"].startswith("text/event-stream")
    return [json.loads(event.removeprefix("data: ")) for event in events]
