"""Any OpenAI-compatible server as an engine: a request a question, many at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from types import NoneType
from typing import Any

from PIL import Image

from vtc.recipes.composition import Recipe
from vtc.video.batch.config import Job
from vtc.video.batch.loading import refused
from vtc.video.batch.matching.choices import prompt_of
from vtc.video.batch.questions import Group, Question
from vtc.video.batch.rows import RowMaker, Seen

from .client import REQUEST_TIMEOUT, Client, EndpointRefusal, EndpointUnreachable
from .content import frame_parts, image_part, video_part
from .in_flight import PATIENCE, Reply, SharedMedium
from .reading import ReadMedium, check_share, read_medium
from .replies import FIELD, STOCK, check_reducing, reply_of

MOST = 16
LOST = 3
"""Requests in turn for which no server was there after all tries; behind them the run ends."""


@dataclass(frozen=True)
class _Content:
    """What requests about a medium have in common: the parts of the message, and what is left to do."""

    parts: list[dict[str, Any]]
    vtc: Mapping[str, Any] | None
    read: ReadMedium


class Endpoint:
    """A `RequestEngine` that asks a server.

    Args:
        job: says which, and how.
        concurrency: requests at once; None: `MOST`.
        request_timeout: seconds for one; None: `REQUEST_TIMEOUT`.
        client: in place of one that is made of these.

    Raises:
        OSError: there is no server.
        EndpointRefusal: it refuses the key.
        ValueError: it does not reduce tokens, and is asked to.
    """

    killed_by_requests = False

    def __init__(
        self,
        job: Job,
        concurrency: int | None = None,
        request_timeout: float | None = None,
        client: Client | None = None,
    ) -> None:
        self.job, self.make, self.most = job, RowMaker(job, ("vtc-vlm", "av")), concurrency or MOST
        self._stopping = threading.Event()
        timeout = REQUEST_TIMEOUT if request_timeout is None else request_timeout
        self._client = client or Client(str(job.endpoint), timeout, stop=self._stopping.is_set)
        if job.reduces:
            check_share(job.recipe_for(False))
        self._client.models()
        if job.reduces:
            check_reducing(self._client, job.model)
        self._flying: dict[Future[Reply], str] = {}
        self._lost = 0

    def spare_processor(self) -> None:
        """See `MediaReader`: the server has it."""

    def open(self, group: Group, *, processor: Any = None) -> SharedMedium:
        """See `RequestEngine`."""
        read = read_medium(group, self.job)
        medium = read.medium
        if isinstance(medium, Image.Image):
            parts = [image_part(medium)]
        else:
            parts = [video_part(medium)] if self.job.video_as == "video" else frame_parts(medium)
        seen = Seen(getattr(medium, "seconds", ()), read.stamp, read.note)
        return SharedMedium(_Content(parts, self._vtc(read.recipe), read), seen, read.seconds)

    def _vtc(self, recipe: Recipe | None) -> Mapping[str, Any] | None:
        if not self.job.reduces:
            return None
        return STOCK if recipe is None else {"recipe": recipe.to_dict(), "keep": recipe.keep}

    def request(self, question: Question, medium: SharedMedium) -> tuple[dict[str, Any], ReadMedium]:
        """See `RequestEngine`."""
        if error := refused(question, None):
            raise error
        content: _Content = medium.content
        text = prompt_of(question, self.job.choices == "listed")
        turns: list[dict[str, Any]] = [{"role": "user", "content": [*content.parts, {"type": "text", "text": text}]}]
        if question.system is not None:
            turns.insert(0, {"role": "system", "content": question.system})
        body = {"model": self.job.model, "messages": turns, "max_tokens": self.job.max_new_tokens, "temperature": 0}
        if content.vtc is not None:
            body[FIELD] = {"vtc": content.vtc}
        body |= self.job.engine_args or {}
        return {name: value for name, value in body.items() if value is not None}, content.read

    def submit(self, name: str, request: tuple[dict[str, Any], ReadMedium]) -> None:
        """See `RequestEngine`."""
        future: Future[Reply] = Future()
        self._flying[future] = name
        # A daemon: what waits for a slow server keeps no process from ending.
        threading.Thread(target=self._ask, args=(future, *request), daemon=True, name="vtc-request").start()

    def _ask(self, future: Future[Reply], body: dict[str, Any], read: ReadMedium) -> None:
        try:
            future.set_result(reply_of(self._client.chat(body), read))
        except BaseException as error:  # raised again where the reply is taken
            future.set_exception(error)

    def finished(self, stop: Callable[[], bool]) -> list[tuple[str, Reply | Exception | None]]:
        """See `RequestEngine`."""
        if stop():
            self._stopping.set()  # no request is tried again
        if self._lost >= LOST:
            raise ConnectionError(
                f"endpoint={self._client.endpoint}: no server answers any more; the rows so far are safe: start it "
                "again, and run the same with --retry"
            )
        done = wait(self._flying, timeout=PATIENCE, return_when=FIRST_COMPLETED).done
        return [(self._flying.pop(future), self._reply(future)) for future in done]

    def _reply(self, future: Future[Reply]) -> Reply | Exception | None:
        error = future.exception()
        if isinstance(error, EndpointRefusal) or not isinstance(error, (Exception, NoneType)):
            raise error
        self._lost = self._lost + 1 if isinstance(error, EndpointUnreachable) else 0
        if error is not None and self._stopping.is_set():  # it may have been tried again
            return None
        return error or future.result()

    def drop(self) -> None:
        """See `RequestEngine`."""
        if self._flying:
            self._stopping.set()
        self._flying.clear()

    def close(self) -> None:
        """See `RequestEngine`."""
        self.drop()
