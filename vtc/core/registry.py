"""Stages and recipes by name, so that a recipe file can name them and a plug-in can add its own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

T = TypeVar("T")

PLUGINS = "vtc.recipes"
"""The entry-point group of modules that register further stages and recipes when they are imported."""
BUILT_IN = ("vtc.recipes.video",)
"""The modules of this distribution that do so; lazily, as they load OpenCV."""


def nearest(name: object, known: Iterable[str]) -> str:
    """`; did you mean ...?` for the closest known name, or an empty text."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


class Registry(Generic[T]):
    """Named things of one kind. `kind` is the word that its errors use.

    The modules of the entry-point group `plugins` are imported once a name is asked for that is not there yet, or all
    names are.
    """

    def __init__(self, kind: str, plugins: str | None = None) -> None:
        self.kind = kind
        self._plugins = plugins
        self._entries: dict[str, T] = {}

    def _load(self) -> None:
        group, self._plugins = self._plugins, None
        for module in BUILT_IN if group else ():
            import_module(module)
        for point in entry_points(group=group) if group else ():
            point.load()

    def add(self, name: str, entry: T) -> T:
        """Enrols `entry` under `name`.

        Raises:
            ValueError: the name is taken by something else.
        """
        if self._entries.get(name, entry) is not entry:
            raise ValueError(f"{self.kind} {name!r} is already taken by {self._entries[name]!r}; choose another name")
        self._entries[name] = entry
        return entry

    def enrol(self, name: str) -> Callable[[T], T]:
        """`add` as a decorator."""
        return lambda entry: self.add(name, entry)

    def get(self, name: str) -> T:
        """The entry called `name`.

        Raises:
            ValueError: there is none; the message suggests the nearest name.
        """
        if name not in self._entries:
            self._load()
        if name not in self._entries:
            known = ", ".join(sorted(self._entries))
            raise ValueError(f"unknown {self.kind} {name!r}{nearest(name, self._entries)} (known: {known})")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries
