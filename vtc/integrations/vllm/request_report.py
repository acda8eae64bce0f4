"""`X-VTC-Report`: how many visual tokens the media of a request had, and how many are read, beside vLLM's answer.

    vllm serve MODEL --middleware vtc.integrations.vllm.request_report.ReportHeader --trust-request-mm-kwargs ...

The tokens are counted in a thread that knows no request, so that each is given a number on its way in, among its
`mm_processor_kwargs`: the one part of a request that vLLM hands to a processor.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from vtc.core.json_text import loads

from . import ARCHITECTURES
from .metrics import Counts
from .settings import KEY, NUMBER

HEADER = b"x-vtc-report"
PATH = "/v1/chat/completions"
LARGEST = 64 << 20
"""Bytes of a request that are held to be numbered; a longer one goes on as it comes, and has no report."""
MOST = 4096
"""Requests whose counts may wait for their answers; those of broken-off ones are forgotten in their turn."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class RequestCounts:
    """Counts between the processor's thread and the answers. Any number of threads may use it."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._lock = most, threading.Lock()
        self._found: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def put(self, number: str, recipe: str, keep: float, items: Iterable[Counts]) -> None:
        """Leave what a request's items came to."""
        items = list(items)
        report = {
            "recipe": recipe,
            "keep": keep,
            "before": sum(item.before for item in items),
            "after": sum(item.after for item in items),
        }
        with self._lock:
            self._found[number] = report
            while len(self._found) > self._most:
                self._found.popitem(last=False)

    def take(self, number: str) -> dict[str, Any] | None:
        """What was left for a request, once; None for one without media."""
        with self._lock:
            return self._found.pop(number, None)


REQUESTS = RequestCounts()
"""Those of this process: API servers that share a port each count their own requests."""


class ReportHeader:
    """ASGI middleware that adds the header to answers of `/v1/chat/completions` about media, streams too.

    Args:
        app: what answers.

    The server does not start where there would be nothing to report: without `vtc` in the engine's settings, without
    `--trust-request-mm-kwargs`, or on an architecture that vtc does not serve.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3."""
        if scope["type"] == "lifespan" and (why := refusal(scope["app"].state)):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": why})
        elif scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(PATH):
            await self._app(scope, receive, send)
        else:
            read = await _read(receive)
            if read[-1]["type"] == "http.disconnect":
                return  # a client that left is owed nothing
            if read[-1].get("more_body", False):  # too long to be held
                await self._app(scope, _again(read, receive), send)
            else:
                await self._numbered(scope, b"".join(part.get("body", b"") for part in read), receive, send)

    async def _numbered(self, scope: Message, body: bytes, receive: Receive, send: Send) -> None:
        number = uuid.uuid4().hex
        body = with_number(body, number)
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        headers = [pair for pair in scope["headers"] if pair[0].lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))

        async def reported(message: Message) -> None:
            if message["type"] == "http.response.start" and (report := REQUESTS.take(number)) is not None:
                own = (HEADER, json.dumps(report, separators=(",", ":")).encode())
                message = {**message, "headers": [*message.get("headers", ()), own]}
            await send(message)

        await self._app({**scope, "headers": headers}, _again(whole, receive), reported)


async def _read(receive: Receive) -> list[Message]:
    """The messages of a request's body: all of them, or until they are longer than `LARGEST`, or the client left."""
    read, length = [await receive()], 0
    while read[-1].get("more_body", False) and length <= LARGEST:
        length += len(read[-1].get("body", b""))
        read.append(await receive())
    return read


def _again(read: Iterable[Message], receive: Receive) -> Receive:
    """What gives `read` once more, and then what comes."""
    unread = iter(list(read))

    async def receive_again() -> Message:
        for message in unread:
            return message
        return await receive()

    return receive_again


def with_number(body: bytes, number: str) -> bytes:
    """A chat completion's request with its number. What is no such request stays as it is, for the server to refuse."""
    try:
        found = loads(body)
    except ValueError:
        return body
    own = found.get("mm_processor_kwargs") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(own, Mapping | None):
        return body
    return json.dumps({**found, "mm_processor_kwargs": {**(own or {}), NUMBER: number}}).encode()


def refusal(state: Any) -> str | None:
    """Why no request could be reported on; None where they can.

    Args:
        state: of vLLM's application, with its `args` and its `engine_client`.
    """
    if not (isinstance(state.args.hf_overrides, Mapping) and KEY in state.args.hf_overrides):
        return 'X-VTC-Report: the engine runs without vtc; start it with --hf-overrides \'{"vtc": {"keep": 0.25}}\''
    if not state.args.trust_request_mm_kwargs:
        return (
            "X-VTC-Report: requests are told apart by their mm_processor_kwargs, which vLLM takes with "
            "--trust-request-mm-kwargs alone; add it, or leave --middleware out"
        )
    name = state.engine_client.model_config.architecture
    if name not in ARCHITECTURES:
        return f"X-VTC-Report: {name} is served by vLLM alone, with all tokens; vtc serves {', '.join(ARCHITECTURES)}"
    return None
