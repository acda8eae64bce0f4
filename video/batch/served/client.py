"""A client of OpenAI-compatible servers: what passes is tried again, what does not is said plainly."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from vtc.core.json_text import loads
from vtc.video.batch.engines import check_url

KEY = "OPENAI_API_KEY"
"""The environment variable that holds the key."""
PASSING = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
"""Codes after which the same request may go through."""
FATAL = {401: "the key is refused", 403: "the key may not do this", 404: "it knows no such address or model"}
"""Codes that every further request would get as well."""
OF_ONE = frozenset((403, 404))
"""Of these, the codes that may be about one request, once others were answered."""
TRIES, FIRST_PAUSE, LONGEST_PAUSE = 6, 1.0, 60.0
REQUEST_TIMEOUT, LISTING_TIMEOUT = 600.0, 30.0
LARGEST = 64 << 20
"""Bytes of an answer that are read at most."""
SHOWN = 300
REPORT, LONGEST_REPORT = "X-VTC-Report", 4096
"""The header in which servers with vtc say what was left out, as `vtc serve` does in an answer's `vtc` too, and its
characters at most."""


class EndpointError(RuntimeError):
    """A request that the server did not answer, or answered with an error."""


class EndpointUnreachable(EndpointError):
    """A request that no server took."""


class EndpointRefusal(ValueError):
    """What every request to the server would get: a wrong address, key or model."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a request's key would go to wherever the server points."""

    def redirect_request(self, *given: Any) -> None:
        """See `urllib.request.HTTPRedirectHandler`: the answer stays the error that it is."""


@dataclass(frozen=True)
class Client:
    """A client of one server. Any number of threads may use it.

    Attributes:
        endpoint: its base address, see `check_url`.
        timeout: seconds without a byte after which a request is given up.
        first_pause: seconds before a request is tried again, doubled each time.
        stop: asked before a request is tried again; where it is true, it is not.

    Raises:
        ValueError: `endpoint` is no such address.
    """

    endpoint: str
    timeout: float = REQUEST_TIMEOUT
    first_pause: float = FIRST_PAUSE
    stop: Callable[[], bool] = lambda: False
    _answered: threading.Event = field(default_factory=threading.Event, repr=False)
    _opener: Any = field(default_factory=lambda: urllib.request.build_opener(_NoRedirects()), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoint", check_url(self.endpoint))

    def models(self) -> list[str]:
        """Names of the models that the server lists; empty where it lists none.

        Raises:
            OSError: there is no server.
            EndpointRefusal: it refuses the key.
        """
        try:
            listed = self._sent("/models", None, min(self.timeout, LISTING_TIMEOUT))
        except EndpointUnreachable as error:
            raise ConnectionError(
                f"endpoint={self.endpoint}: {error}; start the server, or pass the address of one that runs"
            ) from error
        except EndpointRefusal as error:
            if "(404)" in str(error):  # a server need not list its models
                return []
            raise
        except EndpointError:
            return []
        data = listed.get("data")
        return (
            [str(one["id"]) for one in data if isinstance(one, dict) and "id" in one] if isinstance(data, list) else []
        )

    def only_model(self) -> str:
        """The name of the server's model.

        Raises:
            OSError, EndpointRefusal: see `models`.
            ValueError: it lists none, or several.
        """
        names = self.models()
        if len(names) == 1:
            return names[0]
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        listed = f"lists {len(names)} models ({some})" if names else "lists no models"
        raise ValueError(f"endpoint={self.endpoint} {listed}; say which is asked (--model)")

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the server answers to a chat completion. What may pass is tried again, `TRIES` times in all.

        Raises:
            EndpointError: it does not answer, or with an error.
            EndpointRefusal: it would answer so whatever is asked.
        """
        data = json.dumps(body, allow_nan=False).encode()
        for left in range(TRIES - 1, -1, -1):
            try:
                found = self._sent("/chat/completions", data, self.timeout)
                self._answered.set()
                return found
            except EndpointError as error:
                pause = error.__dict__.get("pause")
                if pause is None or not left:
                    raise
                self._rest(max(float(pause), self.first_pause * 2 ** (TRIES - 1 - left)))
                if self.stop():
                    raise
        raise AssertionError  # the last one has raised or returned

    def _rest(self, seconds: float) -> None:
        """Wait, each thread a little otherwise, so that not all come back at once; no longer than until `stop`."""
        until = time.monotonic() + min(LONGEST_PAUSE, seconds) * random.uniform(0.75, 1.25)
        while (left := until - time.monotonic()) > 0 and not self.stop():
            time.sleep(min(left, 0.2))

    def _sent(self, path: str, data: bytes | None, timeout: float) -> dict[str, Any]:
        """One request.

        Raises:
            EndpointError: with the attribute `pause`, in seconds, where it may be tried again.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "vtc"}
        if key := os.environ.get(KEY, "").strip():
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.endpoint}{path}", data, headers)
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                return _with_report(_object(answer), answer.headers.get(REPORT))
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error, key, ever=self._answered.is_set()) from None
        except urllib.error.URLError as error:
            raise _unsent(error.reason, timeout) from None
        except TimeoutError:
            raise _passing(_late(timeout)) from None
        except (OSError, http.client.HTTPException) as error:
            raise _passing(f"the answer broke off ({type(error).__name__}: {error})") from None


def _unsent(reason: object, timeout: float) -> EndpointError:
    """What a request comes to that was not sent, or not all of it: a server may hang up over what it finds too long."""
    if isinstance(reason, TimeoutError):
        return _passing(_late(timeout), unreachable=True)
    if isinstance(reason, (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)):
        return _passing(f"the server hung up ({reason})")
    return _passing(f"no server answers ({reason})", unreachable=True)


def _late(timeout: float) -> str:
    return f"the server has not answered within {timeout:g} s (--request-timeout)"


def _passing(text: str, unreachable: bool = False, pause: float = 0.0) -> EndpointError:
    """An error after which the request may be tried again, `pause` seconds later at the earliest."""
    error = (EndpointUnreachable if unreachable else EndpointError)(text)
    error.__dict__["pause"] = pause
    return error


def _object(answer: IO[bytes]) -> dict[str, Any]:
    """The JSON object that an answer holds."""
    text = answer.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise EndpointError(f"the answer has more than {LARGEST >> 20} MiB")
    try:
        found = loads(text)
    except ValueError:
        raise _passing(f"the answer is no JSON: {_shown(text)!r}") from None
    if not isinstance(found, dict):
        raise _passing(f"the answer is no JSON object: {_shown(text)!r}")
    return found


def _with_report(answer: dict[str, Any], header: str | None) -> dict[str, Any]:
    """An answer with what its header says as its field `vtc`, unless it has that by itself."""
    try:
        report = loads(header) if header is not None and len(header) <= LONGEST_REPORT else None
    except ValueError:
        report = None
    return {"vtc": report, **answer} if isinstance(report, dict) else answer


def _refused(error: urllib.error.HTTPError, key: str, ever: bool) -> Exception:
    """What an answer with an error's code comes to. A server may quote the key, which stays out of rows and logs.

    Args:
        ever: whether it has answered: then 403 and 404 are about this request, such as an image that it refuses.
    """
    try:
        raw = error.read(LARGEST)
    except (OSError, http.client.HTTPException):
        raw = b""
    message = _message(raw)
    if key:
        message = message.replace(key, "(the key)")
    if error.code in FATAL and not (ever and error.code in OF_ONE):
        why = f"{FATAL[error.code]} ({error.code}): {message}"
        return EndpointRefusal(f"{error.url}: {why}; check the address, --model and the environment's {KEY}")
    text = f"the server answers {error.code}: {message}"
    if 300 <= error.code < 400:
        return EndpointRefusal(f"{error.url} points elsewhere ({error.code}), which is not followed; pass that address")
    if error.code == 413:
        text += "; send fewer or smaller frames (--frames), or --video-as video"
    return (
        _passing(text, pause=_seconds(error.headers.get("Retry-After")))
        if error.code in PASSING
        else EndpointError(text)
    )


def _seconds(text: str | None) -> float:
    """What `Retry-After` says in seconds; 0 where it names a date or nothing."""
    return float(text) if text is not None and text.strip().isdecimal() else 0.0


def _message(raw: bytes) -> str:
    """The words of an error's body: OpenAI's `error.message`, or what else is there."""
    try:
        found = loads(raw)
    except ValueError:
        return _shown(raw)
    inner = found.get("error", found) if isinstance(found, dict) else found
    text = (
        next((inner[name] for name in ("message", "detail") if inner.get(name)), None)
        if isinstance(inner, dict)
        else inner
    )
    return _shown(str(text if text is not None else found).encode())


def _shown(raw: bytes) -> str:
    text = " ".join(raw[: 4 * SHOWN].decode(errors="replace").split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
