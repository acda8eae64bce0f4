"""Media of a request as files of its own folder: decoded from base64, or fetched where that is allowed."""

from __future__ import annotations

import base64
import binascii
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from .chat_messages import MediumUrl, Message

TIMEOUT, PATIENCE = 20.0, 60.0
"""Seconds without an answer of an address, and those that fetching may take, after which it is given up."""
PART = 1 << 18
"""Bytes that are fetched at once."""


def save_media(
    messages: Sequence[Message], folder: Path, largest: int, *, allow_urls: bool = False
) -> Mapping[MediumUrl, Path]:
    """Write the media of `messages` into `folder`, one file each.

    Args:
        folder: of this request alone.
        largest: bytes of a medium that is fetched.
        allow_urls: whether http(s) addresses are fetched, whatever this machine can reach.

    Raises:
        ValueError: an address that is not taken, no base64, or more than `largest` bytes.
        OSError: what is at an address cannot be fetched.
    """
    found: dict[MediumUrl, Path] = {}
    for message in messages:
        for part in message.parts:
            if isinstance(part, MediumUrl):
                path = folder / f"{part.kind}{len(found)}"
                _save(part, path, largest, allow_urls)
                found[part] = path
    return found


def _save(medium: MediumUrl, path: Path, largest: int, allow_urls: bool) -> None:
    scheme = medium.url[:8].partition(":")[0].lower() if ":" in medium.url[:8] else ""
    if scheme == "data":
        path.write_bytes(_decoded(medium))
    elif scheme not in ("http", "https"):
        raise ValueError(
            f"{medium.place}: {medium.url!r:.80} is no data: URL; files of the server are never read: pass the medium "
            "itself, as data:...;base64,..."
        )
    elif not allow_urls:
        raise ValueError(
            f"{medium.place}: {medium.url!r:.80} is an address, which this server does not fetch (--allow-urls); pass "
            "the medium itself, as data:...;base64,..."
        )
    else:
        _fetch(medium, path, largest)


def _decoded(medium: MediumUrl) -> bytes:
    head, comma, data = medium.url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ValueError(f"{medium.place}: {head!r:.80} is no data: URL in base64; pass data:...;base64,...")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{medium.place}: what follows ';base64,' is no base64: {error}") from None


def _fetch(medium: MediumUrl, path: Path, largest: int) -> None:
    """Fetch over http(s) alone, redirections too: nobody is led to a file of this machine."""
    opener = urllib.request.OpenerDirector()
    for kind in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(kind())
    begun, size = time.monotonic(), 0
    try:
        with opener.open(medium.url, timeout=TIMEOUT) as answer, path.open("wb") as file:
            while part := answer.read(PART):
                size += len(part)
                if size > largest:
                    raise ValueError(f"{medium.place}: {medium.url!r:.80} holds more than {largest} bytes")
                if time.monotonic() - begun > PATIENCE:
                    raise ValueError(f"{medium.place}: {medium.url!r:.80} takes longer than {PATIENCE:.0f} s to fetch")
                file.write(part)
    except OSError as error:
        raise ValueError(f"{medium.place}: {medium.url!r:.80} cannot be fetched: {error}") from error
