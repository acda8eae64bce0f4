"""Stages, recipes and adapters by name, so that a recipe file can name them and a plug-in can add its own."""

from __future__ import annotations

import difflib
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

T = TypeVar("T")

PLUGINS = "vtc.plugins"
"""The entry-point group of modules that register stages, recipes and adapters when they are imported."""
OLD_PLUGINS = "vtc.recipes"
"""The group's name of 0.1, which is still read."""
BUILT_IN = ("vtc.recipes.video",)
"""The modules of this distribution that register stages and recipes; lazily, as they load OpenCV."""
# fmt: off
VIDEO_NAMES = (
    "clip-budget", "dcode", "dycoke", "evs", "evs-vllm", "fastvid", "framefusion", "keyframes", "kffocus", "langdc",
    "tdc", "tdc-video", "uniform", "vidcom2", "video", "video-question", "videogpt+", "vqtoken", "vqtoken-adaptive",
    "allocate/clips", "allocate/first-of-segment", "allocate/key-density", "allocate/question-clips",
    "allocate/semantic-density", "input/keyframes", "merge/along-time", "merge/codebook", "merge/fastvid",
    "select/adaptive-codebook", "select/codebook", "select/dycoke", "select/evs", "select/fastvid",
    "select/framefusion", "select/strong-apart", "select/vidcom2",
)
# fmt: on
"""What those modules register: another thing of such a name is refused, though they are not loaded yet."""
SHOWN = 12
"""Names that an error lists; of a longer registry it lists the nearest alone."""


def nearest(name: object, known: Iterable[str], n: int = 1) -> str:
    """`; did you mean ...?` for the closest `n` known names, or an empty text."""
    close = difflib.get_close_matches(str(name), list(known), n=n, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


_LOADING = threading.RLock()
"""Held while modules are imported that register: other threads wait for their names; the importing one may look up."""


_FAILED: set[str] = set()
"""Plug-ins whose import failed in this process. Tried again, they would fail by what they registered at first."""


def load_plugins() -> None:
    """Import what other distributions enter in the group `PLUGINS`.

    One that fails is named in a warning, so that it does not take the built-in stages and adapters with it.
    """
    for point in [*entry_points(group=PLUGINS), *entry_points(group=OLD_PLUGINS)]:
        if point.value in _FAILED:
            continue
        try:
            point.load()
        except Exception as error:
            _FAILED.add(point.value)
            warnings.warn(
                f"plug-in {point.value!r} was not loaded: {type(error).__name__}: {error}; what it registers is not "
                "there, or in part. Repair or uninstall its distribution",
                stacklevel=2,
            )


def _spelling(name: str) -> str:
    """What two spellings of one name have in common."""
    return re.sub(r"[-_\s]", "", name).casefold()


def _same(old: object, new: object) -> bool:
    """Whether `new` is `old`, or what the same lines of code defined once more."""
    places = [(getattr(x, "__module__", None), getattr(x, "__qualname__", None)) for x in (old, new)]
    again = places[0] == places[1] and None not in places[0] and "<" not in str(places[0][1])
    return again or bool(old == new)


class Registry(Generic[T]):
    """Named things of one kind, in the order of registration.

    Case, `-`, `_` and blanks do not matter where a name is looked up. Plug-ins are imported once a name is asked for
    that is not there yet, or all names are.

    Args:
        kind: the word that its errors use.
        plugins: whether modules of other distributions may add to it.
        built_in: modules of this distribution that do.
        listing: how a user sees all names, for errors.
    """

    def __init__(
        self, kind: str, *, plugins: bool = False, built_in: Sequence[str] = (), listing: str | None = None
    ) -> None:
        self.kind = kind
        self._plugins = plugins
        self._built_in = tuple(built_in)
        self._loaded = self._importing = False
        self._listing = listing
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}

    def _load(self) -> None:
        if self._loaded:
            return
        with _LOADING:
            if self._loaded or self._importing:  # the latter where a module that is being imported looks a name up
                return
            self._importing = True
            try:
                for module in self._built_in:
                    import_module(module)
                if self._plugins:
                    load_plugins()
                self._loaded = True  # not where an import fails: the next look-up fails as this one did
            finally:
                self._importing = False

    def _load_built_in(self, name: str) -> None:
        """Import the modules that register a built-in `name`, so that another `name` is refused here, not there."""
        if _spelling(name) in map(_spelling, VIDEO_NAMES):
            for module in self._built_in:
                if module not in sys.modules:
                    import_module(module)

    def add(self, name: str, entry: T) -> T:
        """Register `entry` as `name`; the same one again, as where a notebook's cell is run twice, takes its place.

        Raises:
            TypeError: `name` is no text.
            ValueError: the name, or another spelling of it, is taken.
        """
        if not isinstance(name, str):
            raise TypeError(f"name={name!r} is a {type(name).__name__}; expected the name of a {self.kind}")
        if not _spelling(name):
            raise ValueError(f"name={name!r} is empty; give the {self.kind} a name")
        self._load_built_in(name)
        taken = self._found(name)
        if taken is not None and not (taken == name and _same(self._entries[name], entry)):
            known = f" as another spelling of {taken!r}" if taken != name else ""
            raise ValueError(
                f"{self.kind} {name!r} is already taken by {self._entries[taken]!r}{known}; choose another name"
            )
        self._entries[name] = entry
        return entry

    def alias(self, name: str, of: str) -> None:
        """Register `name` as a second name of the entry `of`.

        Raises:
            ValueError: `of` is no entry, or `name` is taken by another.
        """
        if of not in self._entries:
            raise ValueError(f"of={of!r} is no {self.kind} yet; register it before its alias {name!r}")
        self._load_built_in(name)
        if self._found(name) not in (None, of):
            raise ValueError(f"alias {name!r} is already taken by {self._found(name)!r}; choose another name")
        self._aliases[name] = of

    def register(self, name: str) -> Callable[[T], T]:
        """`add` as a decorator."""
        return lambda entry: self.add(name, entry)

    def aliases(self, name: str) -> tuple[str, ...]:
        """The other names of the entry `name`."""
        return tuple(alias for alias, of in self._aliases.items() if of == name)

    def canonical(self, name: object) -> str | None:
        """The name under which what is called `name` was registered, however it is spelt; None where there is none."""
        found = self._found(name)
        if found is None:
            self._load()
            found = self._found(name)
        return found

    def _found(self, name: object) -> str | None:
        if not isinstance(name, str):
            return None
        if name in self._entries:
            return name
        spelt = _spelling(name)
        spellings = {_spelling(known): known for known in self._entries}
        spellings |= {_spelling(alias): of for alias, of in self._aliases.items()}
        return spellings.get(spelt)

    def get(self, name: str) -> T:
        """The entry called `name`.

        Raises:
            ValueError: there is none; the message suggests the three nearest names.
        """
        found = self.canonical(name)
        if found is None:
            raise ValueError(f"unknown {self.kind} {name!r}{self._hint(name)}")
        return self._entries[found]

    def _hint(self, name: object) -> str:
        near = nearest(name, [*self._entries, *self._aliases], n=3)
        if self._listing is not None:
            return f"{near or ';'} {self._listing} lists all {len(self._entries)}"
        known = sorted(self._entries)
        return f"{near} (known: {', '.join(known)})" if len(known) <= SHOWN or not near else near

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return self.canonical(name) is not None
