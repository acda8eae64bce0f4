"""Requests one after the other: a thread that answers, and a bound on those that wait."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .answering import ChatAnswer, PromptCounts, ServedModel, answered
from .chat_messages import MediumUrl
from .chat_request import ChatRequest
from .errors import RequestError

ChatEvent = PromptCounts | str | ChatAnswer | RequestError
"""What comes of a request: what was read, pieces of text, and at the end the answer or why there is none."""
RETRY_SECONDS = 5


class Admission:
    """A place among the requests that are answered or wait; given back once, by whoever is done with it first."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the place back."""
        release, self._release = self._release, None
        if release is not None:
            release()


@dataclass(frozen=True)
class RunningAnswer:
    """An answer under way.

    Attributes:
        events: what comes of it, for one reader in the loop that asked.
        stop: set from anywhere, it ends the answer behind the token in hand.
    """

    events: asyncio.Queue[ChatEvent]
    stop: threading.Event = field(default_factory=threading.Event)


class InferenceQueue:
    """The model of a server and the requests that want it. All methods but `close` are for the server's loop.

    Args:
        served: its model.
    """

    def __init__(self, served: ServedModel) -> None:
        self.served = served
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vtc-serve")
        self._inside, self._counting = 0, threading.Lock()
        self._closing = False

    @property
    def inside(self) -> int:
        """Requests that are answered, wait or are being received."""
        return self._inside

    def admit(self) -> Admission:
        """Take a place, before a request is received.

        Raises:
            RequestError: too many wait (429), or the server ends (503).
        """
        if self._closing:
            raise RequestError("the server is shutting down", 503, "shutting_down")
        if self._inside > self.served.limits.waiting:
            raise RequestError(
                f"{self._inside - 1} requests wait already, and this server answers one at a time; come back later",
                429,
                "queue_full",
            )
        with self._counting:
            self._inside += 1
        return Admission(self._leave)

    def _leave(self) -> None:
        with self._counting:
            self._inside -= 1

    def submit(self, request: ChatRequest, files: Mapping[MediumUrl, Path], done: Callable[[], None]) -> RunningAnswer:
        """Have `request` answered in its turn.

        Args:
            files: its media.
            done: called from any thread when the answer is finished, before that is known; it may be called twice.
        """
        loop, running = asyncio.get_running_loop(), RunningAnswer(asyncio.Queue())

        def tell(event: ChatEvent) -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody reads any more
                loop.call_soon_threadsafe(running.events.put_nowait, event)

        def work() -> None:
            found = self._answer(request, files, running.stop, tell)
            done()
            tell(found)

        # Once more behind it: an answer may be dropped before its turn.
        self._executor.submit(work).add_done_callback(lambda _: done())
        return running

    def _answer(
        self,
        request: ChatRequest,
        files: Mapping[MediumUrl, Path],
        stop: threading.Event,
        tell: Callable[[Any], None],
    ) -> ChatAnswer | RequestError:
        """The answer, or why there is none; called in the thread of the model."""

        def ended() -> bool:
            return stop.is_set() or self._closing

        try:
            if not ended():
                answer = answered(self.served, request, files, ended, tell, tell)
            if self._closing:
                return RequestError("the server is shutting down", 503, "shutting_down")
            return RequestError("the client is gone", 499, "cancelled") if stop.is_set() else answer
        except RequestError as error:
            return error
        except MemoryError as error:
            return RequestError(f"memory does not suffice: {error}", 503, "out_of_memory")
        except Exception as error:
            if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
                return RequestError("the GPU's memory does not suffice; send less", 503, "out_of_memory")
            traceback.print_exception(error, file=sys.stderr)
            return RequestError(f"internal: {type(error).__name__}; the server's log has the rest", 500, "internal")

    def end(self) -> None:
        """Have the answer in hand and those that wait end soon. Takes no lock: handlers of signals may call it."""
        self._closing = True

    def close(self) -> None:
        """End, and wait for the thread."""
        self.end()
        self._executor.shutdown(cancel_futures=True)
