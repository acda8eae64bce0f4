"""Rules by name and parameters, as recipe files and the command line state them: `even:parts=4`, or a JSON object."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from .registry import nearest

T = TypeVar("T")

Maker = Callable[..., T]
Spec = str | Mapping[str, Any]
"""`NAME`, `NAME:PARAMETER=VALUE,...`, or an object with `name` and the parameters."""


def build(word: str, spec: Any, makers: Callable[[str], Maker[T]], kind: type[T]) -> T:
    """Resolve `spec`, or return it where it is an instance.

    Args:
        word: the argument's name, for errors.
        spec: a `Spec`, or what it would make.
        makers: gives the class or function of a name.
        kind: of what is made.

    Raises:
        TypeError: `spec` is neither.
        ValueError: an unknown name or parameter, or a value that the rule refuses; the message has `word`.
    """
    if isinstance(spec, kind):
        return spec
    name, given = _parts(word, spec)
    maker = makers(name)
    known = [p for p in inspect.signature(maker).parameters if p != "self"]
    for parameter in given:
        if parameter not in known:
            listed = f"{nearest(parameter, known)} (known: {', '.join(known) or 'none'})"
            raise ValueError(f"{word}={spec!r}: {name!r} has no parameter {parameter!r}{listed}")
    try:
        return maker(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{word}={spec!r}: {error}") from error


def spec_of(rule: Any) -> str | dict[str, Any]:
    """The `Spec` of a rule that is a dataclass with a `name`: the name alone where its parameters are the defaults."""
    try:
        if type(rule)() == rule:
            return str(rule.name)
    except (TypeError, ValueError):  # one that must be given something
        pass
    return {"name": rule.name, **{field.name: _plain(getattr(rule, field.name)) for field in fields(rule)}}


def normalized(rule: Any) -> Any:
    """`rule`, or its name where that says all, so that one rule is written, compared and hashed in one way."""
    spec = spec_of(rule)
    return spec if isinstance(spec, str) else rule


def _plain(value: Any) -> Any:
    return spec_of(value) if hasattr(value, "name") and hasattr(value, "__dataclass_fields__") else value


def _parts(word: str, spec: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, Mapping):
        given = dict(spec)
        name = given.pop("name", None)
        if not isinstance(name, str):
            raise ValueError(
                f'{word}={dict(spec)!r} has no name; expected an object such as {{"name": "even", "parts": 4}}'
            )
        return name, given
    if not isinstance(spec, str):
        raise TypeError(
            f"{word}={spec!r} is a {type(spec).__name__}; expected a name, a name with parameters, such as "
            "'even:parts=4', or an object with a name and parameters"
        )
    name, _, rest = spec.partition(":")
    return name, dict(_pair(word, spec, part) for part in rest.split(",") if part)


def _pair(word: str, spec: str, part: str) -> tuple[str, Any]:
    """`parameter=value`; a value is read as JSON where it is some, else as text."""
    parameter, equals, value = part.partition("=")
    if not equals:
        raise ValueError(f"{word}={spec!r}: {part!r} is no parameter=value; write it as in 'even:parts=4'")
    try:
        return parameter.strip(), json.loads(value.lower() if value.lower() in ("none", "true", "false") else value)
    except json.JSONDecodeError:
        return parameter.strip(), None if value.lower() == "none" else value
