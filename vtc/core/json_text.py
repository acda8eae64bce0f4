"""JSON from anywhere, whose every fault is a `ValueError`."""

from __future__ import annotations

import json
from typing import Any


def loads(text: str | bytes) -> Any:
    """Parse `text`.

    Raises:
        ValueError: it is no JSON; a number of thousands of digits, or lists in lists deeper than Python's stack.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None
