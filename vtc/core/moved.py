"""Old import names: they warn and point to the new ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any


def moved(old: str, new: str, renamed: Mapping[str, str] = MappingProxyType({})) -> Callable[[str], Any]:
    """`__getattr__` of the module `old`, whose names are in `new` now, some of them `renamed`."""

    def getattribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        now = renamed.get(name, name)
        found = getattr(import_module(new), now)
        warnings.warn(f"{old}.{name} is now {new}.{now}", DeprecationWarning, stacklevel=2)
        return found

    return getattribute
