"""An OpenAI-compatible server that looks at the images it is sent, and fails as it is asked to."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import numpy as np
from PIL import Image

EACH = 100
"""Visual tokens of an image."""


@dataclass
class Fake:
    """What the server does, and what it saw.

    Attributes:
        models: that it lists.
        fault: of the body and how often its question came before: None to answer, or what is sent instead: a code, a
            code with headers, bytes, or "drop".
        reduces: whether it heeds `mm_processor_kwargs`; None: it refuses the field.
        tells: whether it says visual tokens.
        header: whether it says them in `X-VTC-Report`, as vLLM's middleware does.
        wait: seconds that an answer takes.
    """

    models: list[str] = field(default_factory=lambda: ["seeing"])
    fault: Callable[[dict[str, Any], int], Any] = lambda body, before: None
    reduces: bool | None = True
    tells: bool = True
    header: bool = False
    wait: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    together: int = 0
    most_together: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def asked(self) -> list[str]:
        """The questions that came, each as often as it did, without the short ones that look how the server is."""
        return [text for text in map(text_of, self.bodies) if text != "?"]

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion about what the images show."""
        shown = images_of(body)
        counts = ", ".join(f"{image.width}x{image.height}" for image in dict.fromkeys(map(ImageSize, shown)))
        text = color(shown[0]) if "colour" in text_of(body) else f"{len(shown)} of {counts}"
        before = EACH * len(shown)
        keep = body.get("mm_processor_kwargs", {}).get("vtc", {}).get("keep", 1.0) if self.reduces else 1.0
        after = round(before * keep)
        usage: dict[str, Any] = {"prompt_tokens": after + 9, "completion_tokens": 1}
        if self.tells:
            usage["prompt_tokens_details"] = {"visual_tokens_full": before, "visual_tokens": after}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}


class ImageSize:
    """An image by its size."""

    def __init__(self, image: Image.Image) -> None:
        self.width, self.height = image.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageSize) and (self.width, self.height) == (other.width, other.height)

    def __hash__(self) -> int:
        return hash((self.width, self.height))


def content(body: dict[str, Any]) -> list[dict[str, Any]]:
    return body["messages"][-1]["content"]


def text_of(body: dict[str, Any]) -> str:
    return next(part["text"] for part in content(body) if part["type"] == "text")


def images_of(body: dict[str, Any]) -> list[Image.Image]:
    """The images of a body, those of its video among them."""
    found = []
    for part in content(body):
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(",")
            assert head == "data:image/png;base64"
            found.append(Image.open(io.BytesIO(base64.b64decode(data))))
        elif part["type"] == "video_url":
            head, _, data = part["video_url"]["url"].partition(",")
            assert head == "data:video/mp4;base64"
            with av.open(io.BytesIO(base64.b64decode(data))) as file:
                found += [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    return found


def color(image: Image.Image) -> str:
    return ("red", "green", "blue")[int(np.asarray(image).reshape(-1, 3).mean(0).argmax())]


@contextmanager
def serving(fake: Fake, port: int = 0) -> Iterator[str]:
    """The base address of a server that runs in threads."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send(200, {"object": "list", "data": [{"id": name} for name in fake.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions" or body["model"] not in fake.models:
                return self.send(404, {"error": {"message": f"no model {body['model']!r} at {self.path}"}})
            with fake.lock:
                before = fake.asked().count(text_of(body))
                fake.bodies.append(body)
                fake.headers.append(dict(self.headers))
                fake.times.append(time.monotonic())
                fake.together += 1
                fake.most_together = max(fake.most_together, fake.together)
            try:
                time.sleep(fake.wait)
                fault = fake.fault(body, before) if text_of(body) != "?" else None
                if fault is None and fake.reduces is None and "mm_processor_kwargs" in body:
                    fault = 400
            finally:
                with fake.lock:
                    fake.together -= 1
            if fault is not None:
                return self.fail(fault)
            answer = fake.answer(body)
            before, after = EACH * len(images_of(body)), answer["usage"]["prompt_tokens"] - 9
            report = json.dumps({"recipe": "kcenter", "before": before, "after": after})
            return self.send(200, answer, {"X-VTC-Report": report} if fake.header else None)

        def fail(self, fault: Any) -> None:
            if fault == "drop":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices": [')
                self.close_connection = True
            elif isinstance(fault, bytes):
                self.raw(200, fault)
            else:
                code, more = fault if isinstance(fault, tuple) else (fault, {})
                self.send(code, {"error": {"message": f"fault {code} {self.headers.get('Authorization', '')}"}}, more)

        def send(self, code: int, value: Any, more: dict[str, str] | None = None) -> None:
            self.raw(code, json.dumps(value).encode(), more)

        def raw(self, code: int, data: bytes, more: dict[str, str] | None = None) -> None:
            self.send_response(code)
            for name, text in {"Content-Length": str(len(data)), **(more or {})}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
