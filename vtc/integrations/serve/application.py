"""The application: its paths, and what is between a request's bytes and its answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .answering import ChatAnswer, PromptCounts
from .chat_request import ChatRequest, read_request
from .errors import RequestError
from .inference_queue import RETRY_SECONDS, ChatEvent, InferenceQueue, RunningAnswer
from .media_files import save_media
from .responses import DONE, ResponseWriter, event, header

UPLOAD_SECONDS = 300.0
"""What a client may take to send a request."""
PATHS = "POST /v1/chat/completions, GET /v1/models, GET /health"


class AnswerStreaming(StreamingResponse):
    """A stream whose answer ends with it, also where the client left before the first event."""

    def __init__(self, stop: threading.Event, content: AsyncIterator[str], **options: Any) -> None:
        super().__init__(content, **options)
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette's class."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stop.set()


class ChatApplication:
    """The paths of a server over one queue.

    Args:
        queue: of its model.
        allow_urls: whether media at http(s) addresses are fetched.
        say: called with a line about each answer.
    """

    def __init__(self, queue: InferenceQueue, *, allow_urls: bool, say: Callable[[str], None]) -> None:
        self._queue, self._allow_urls, self._say = queue, allow_urls, say
        self._served, self._created = queue.served, int(time.time())

    def build(self) -> Starlette:
        """The application, for an ASGI server."""
        routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/health", self.health),
        ]
        handlers: dict[Any, Any] = {RequestError: _refused, HTTPException: _no_path}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def health(self, request: Request) -> Response:
        """Whether requests are taken."""
        return JSONResponse({"status": "ok", "model": self._served.name, "requests": self._queue.inside})

    async def models(self, request: Request) -> Response:
        """The one model."""
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def model(self, request: Request) -> Response:
        """The model of that name."""
        name = request.path_params["name"]
        if name != self._served.name:
            raise RequestError(f"model={name!r} is not served here; {self._served.name!r} is", 404, "model_not_found")
        return JSONResponse(self._card())

    def _card(self) -> dict[str, Any]:
        card = {"id": self._served.name, "object": "model", "created": self._created, "owned_by": "vtc"}
        return {**card, "max_model_len": self._served.context}

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        _check_json(request)
        with ExitStack() as stack:
            stack.callback(self._queue.admit().release)
            body = await _body(request, self._served.limits.body)
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="vtc-serve-")))
            asked, files = await asyncio.to_thread(self._read, body, folder)
            del body
            # From here on they are given back when the answer has ended, whoever still reads.
            running = self._queue.submit(asked, files, stack.pop_all().close)
        return await self._response(request, asked, running)

    def _read(self, body: bytes, folder: Path) -> tuple[ChatRequest, Any]:
        asked = read_request(body, self._served.name, self._served.defaults, self._served.limits)
        try:
            files = save_media(asked.messages, folder, self._served.limits.body, allow_urls=self._allow_urls)
        except ValueError as error:
            raise RequestError(str(error)) from error
        return asked, files

    async def _response(self, request: Request, asked: ChatRequest, running: RunningAnswer) -> Response:
        gone = asyncio.create_task(_gone(request))
        try:
            begun = time.perf_counter()
            counts = await _next(running, gone)
            writer = ResponseWriter(self._served.name)
            if isinstance(counts, PromptCounts) and asked.stream:
                return AnswerStreaming(
                    running.stop,
                    self._pieces(asked, running, writer, begun),
                    media_type="text/event-stream",
                    headers=header(counts),
                )
            found: ChatEvent = counts
            while not isinstance(found, ChatAnswer | RequestError):
                found = await _next(running, gone)
            if isinstance(found, RequestError):
                raise found
            self._log(found, begun)
            return JSONResponse(writer.completion(found), headers=header(found.counts))
        except BaseException:
            running.stop.set()
            raise
        finally:
            gone.cancel()

    async def _pieces(
        self, asked: ChatRequest, running: RunningAnswer, writer: ResponseWriter, begun: float
    ) -> AsyncIterator[str]:
        try:
            yield writer.first()
            while True:
                found = await running.events.get()
                if isinstance(found, str):
                    yield writer.piece(found)
                elif isinstance(found, RequestError):
                    yield event(found.body()) + DONE
                    return
                elif isinstance(found, ChatAnswer):
                    self._log(found, begun)
                    yield writer.last(found, asked.usage)
                    return
        finally:
            running.stop.set()  # nobody reads any more

    def _log(self, answer: ChatAnswer, begun: float) -> None:
        counts, seconds = answer.counts, time.perf_counter() - begun
        report = counts.report
        self._say(
            f"{report.recipe}, keep {counts.keep}: {report.after} of {report.before} visual tokens, "
            f"{answer.tokens} tokens answered, {seconds:.2f} s"
        )


def _check_json(request: Request) -> None:
    """Refuse what a page in a browser may send to any server without asking it first."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(
            f"content-type={kind!r}; send JSON, with the header 'Content-Type: application/json'", 415, "content_type"
        )


async def _body(request: Request, largest: int) -> bytes:
    """The body, refused as soon as it is larger than `largest` bytes."""

    async def read() -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > largest:
                raise too_large
            parts.append(part)
        return b"".join(parts)

    too_large = RequestError(
        f"the request has more than {largest >> 20} MiB, its media in base64 among them; send less (--max-request)",
        413,
        "request_too_large",
    )
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > largest:
        raise too_large
    try:
        return await asyncio.wait_for(read(), UPLOAD_SECONDS)
    except asyncio.TimeoutError:
        raise RequestError(f"the request took longer than {UPLOAD_SECONDS:.0f} s to come", 408, "timeout") from None


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _next(running: RunningAnswer, gone: asyncio.Task[None]) -> ChatEvent:
    """What comes next of an answer. RequestError where the client is gone before."""
    coming = asyncio.create_task(running.events.get())
    await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
    if coming.done():
        return coming.result()
    coming.cancel()
    raise RequestError("the client is gone", 499, "cancelled")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"Retry-After": str(RETRY_SECONDS)} if error.status in (429, 503) else None
    return JSONResponse(error.body(), error.status, headers)


async def _no_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    found = RequestError(f"{request.method} {request.url.path}: not here; this server has {PATHS}", error.status_code)
    return JSONResponse(RequestError(found.message, found.status, "not_found").body(), found.status)
