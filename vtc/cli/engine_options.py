"""Arguments of an engine, given as JSON."""

from __future__ import annotations

from typing import Any

from vtc.core.json_text import loads


def json_object(name: str, text: str | None) -> dict[str, Any]:
    """The object that an option holds as JSON; empty where it was not given.

    Raises:
        ValueError: it is none.
    """
    try:
        found = loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"""{name}={text!r}; expected a JSON object such as '{{"max_model_len": 4096}}'""")
    return found
