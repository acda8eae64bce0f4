"""Messages between the reader and the child that decodes: a few named values and, where needed, raw bytes.

Nothing in a message can run: a child that a hostile file has taken over can lie about images, and do no more.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

HEAD = struct.Struct("<IQ")
MOST_TEXT = 1 << 20
"""Bytes of the named values of one message."""


def send(stream: BinaryIO, values: Mapping[str, Any], body: bytes | memoryview = b"") -> None:
    """Write one message, and everything of it.

    Raises:
        OSError: the other side is gone.
    """
    text = json.dumps(values).encode()
    stream.write(HEAD.pack(len(text), memoryview(body).nbytes) + text)
    if body:
        stream.write(body)
    stream.flush()


def receive(stream: BinaryIO, most: int) -> tuple[dict[str, Any], bytearray] | None:
    """The next message; None where the other side is gone, also in the middle of one.

    Raises:
        ValueError: a body of more than `most` bytes, or what is no message.
    """
    head = _exactly(stream, HEAD.size)
    if head is None:
        return None
    text_size, body_size = HEAD.unpack(head)
    if text_size > MOST_TEXT or body_size > most:
        raise ValueError(f"a message of {text_size} + {body_size} bytes; at most {MOST_TEXT} + {most} are taken")
    text, body = _exactly(stream, text_size), _exactly(stream, body_size)
    if text is None or body is None:
        return None
    values = json.loads(bytes(text))
    if not isinstance(values, dict):
        raise ValueError(f"a message of {type(values).__name__}; expected named values")
    return values, body


def _exactly(stream: BinaryIO, count: int) -> bytearray | None:
    taken = bytearray(count)
    view, at = memoryview(taken), 0
    while at < count:
        got = stream.readinto(view[at:])  # type: ignore[attr-defined]
        if not got:
            return None
        at += got
    return taken
