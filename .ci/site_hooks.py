"""What the site needs beyond its configuration: sources laid out as one package, names of docstrings one by one.

`vtc.adapters` and `vtc.video` lie beside `vtc` in the repository and below it when installed (setuptools'
package-dir), which a reader of source files cannot know.
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import griffe
from mkdocs.plugins import event_priority

ROOT = Path(__file__).parents[1]
PLACES = {"vtc": "vtc", "adapters": "vtc/adapters", "video": "vtc/video"}
"""Folder of the repository -> where it lies in the package."""


@event_priority(100)  # before mkdocstrings, which reads its paths once
def on_config(config: Any) -> Any:
    """Points mkdocstrings at a copy of the sources. Links would not do: they are followed back to the repository."""
    folder = Path(tempfile.mkdtemp(prefix="vtc-docs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for source, place in PLACES.items():
        for path in (ROOT / source).rglob("*.py"):
            copy = folder / place / path.relative_to(ROOT / source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [str(folder)]
    return config


ENTRY = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.+(?:\n(?P=indent) +.*)*)$", re.M)


def one_by_one(docstring: str) -> str:
    """`docstring` with an entry `a, b: text` as two, of which the second refers to the first: readers take one name."""

    def parted(match: re.Match[str]) -> str:
        first, *others = match["names"].split(", ")
        entries = [f"{first}: {match['text']}", *(f"{name}: see `{first}`." for name in others)]
        return "\n".join(match["indent"] + entry for entry in entries)

    return ENTRY.sub(parted, docstring)


class ComputedExports(griffe.Extension):
    """Takes `__all__` of packages that compute theirs from what they import, which no reader of sources can."""

    def on_module(self, *, mod: griffe.Module, **kwargs: Any) -> None:
        """Exports what the package itself does."""
        if mod.path == "vtc.stages":
            mod.exports = list(import_module(mod.path).__all__)


class OneByOne(griffe.Extension):
    """Parts the entries of docstrings that are about several parameters or attributes."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrites the docstring of `obj`."""
        if obj.docstring:
            obj.docstring.value = one_by_one(obj.docstring.value)
