"""The server: an address, the application behind it, and an end that waits for nobody."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.responses import JSONResponse

from vtc.core.ports import LOCAL, LOOPBACK, free_port

from .answering import ServedModel
from .application import ChatApplication
from .errors import RequestError
from .inference_queue import InferenceQueue

GRACE = 10
"""Seconds that open connections have to end."""


class LocalHosts:
    """An application that answers only those who ask for this machine by one of its own names.

    A page of another site could else reach it from a browser here, once that site's name leads to this machine.
    """

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, as ASGI has it."""
        asked = next((value for name, value in scope.get("headers", ()) if name == b"host"), b"").decode("latin-1")
        host = asked.rpartition(":")[0] if not asked.endswith("]") and ":" in asked else asked
        if scope["type"] == "http" and host.strip("[]") not in LOCAL:
            error = RequestError(
                f"host={host!r} is not this machine; ask for localhost, or serve with --host", 403, "host"
            )
            await JSONResponse(error.body(), error.status)(scope, receive, send)
            return
        await self._application(scope, receive, send)


class ChatServer(uvicorn.Server):
    """A server of one model, which `run` serves until a signal or `stop`.

    Args:
        served: the model.
        host: the address to bind to; by default only this machine can reach it.
        port: 0: any free one.
        allow_urls: whether media at http(s) addresses are fetched, whatever this machine can reach.
        say: called with a line about each answer.
        on_start: called with the address of the API once it answers.

    Raises:
        OSError: the port is taken, or `host` is no address of this machine.
    """

    def __init__(
        self,
        served: ServedModel,
        *,
        host: str = LOOPBACK,
        port: int = 8000,
        allow_urls: bool = False,
        say: Callable[[str], None] = lambda line: None,
        on_start: Callable[[str], None] = lambda url: None,
    ) -> None:
        found = free_port(host, port)
        self.queue = InferenceQueue(served)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{found}/v1"
        self._on_start = on_start
        application: Any = ChatApplication(self.queue, allow_urls=allow_urls, say=say).build()
        super().__init__(
            uvicorn.Config(
                LocalHosts(application) if host in LOCAL else application,
                host=host,
                port=found,
                log_config=None,  # the process's own logging stays as it is
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=GRACE,
            )
        )

    async def startup(self, sockets: Any = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self.started:
            self._on_start(self.url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End soon, answers under way too."""
        self.queue.end()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """End `run`, from another thread."""
        self.queue.end()
        self.should_exit = True

    def run(self, sockets: Any = None) -> None:
        """Serve until Ctrl-C, SIGTERM, the end of the terminal or `stop`; returns when all has ended."""
        hangup = getattr(signal, "SIGHUP", None)
        catches = hangup is not None and threading.current_thread() is threading.main_thread()
        before = signal.signal(hangup, self.handle_exit) if catches and hangup is not None else None
        try:
            super().run(sockets)
        except KeyboardInterrupt:  # uvicorn passes the signal on once it has ended
            pass
        finally:
            if before is not None and hangup is not None:
                signal.signal(hangup, before)
            self.queue.close()
