"""HTML by templates that escape whatever is no `Markup`."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .images import data_uri

LONGEST = 2000
"""Characters of a text from a run that are shown."""
_UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def cleaned(text: str) -> str:
    """`text` with U+FFFD for characters that no page may hold: controls, half surrogates."""
    return _UNSHOWN.sub("\ufffd", text)


def render(template: str, **values: Any) -> str:
    """Fill in a template of this package."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vtc.html_report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else cleaned(str(value)),
    )
    environment.filters |= {"cut": _cut, "data_uri": data_uri}
    return environment


def _cut(text: object) -> str:
    """Words from a run; where they are very long, their beginning."""
    whole = str(text)
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}… ({len(whole) - LONGEST} more characters)"
