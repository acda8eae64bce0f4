"""Models by name: an embedded one, a directory, or an id of the Hugging Face hub."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from vtc.core.registry import nearest

PATIENCE = 5.0
"""Seconds that the hub has to answer the first question about a model."""

DTYPES = ("auto", "float32", "bfloat16", "float16")
FOREIGN_TYPES = {
    "llava_llama": "LlavaLlamaForCausalLM",
    "llava_mistral": "LlavaMistralForCausalLM",
    "llava_qwen": "LlavaQwenForCausalLM",
    "internvl_chat": "InternVLChatModel",
}
"""Model types of checkpoints that no stock class reads, and their architectures."""


def load(name: str | Path, *, device: str = "auto", dtype: str = "auto") -> tuple[Any, Any]:
    """The model `name` in evaluation mode, and its processor.

    What no adapter knows is refused from its config, before any weight is fetched. Code from a checkpoint never runs.

    Args:
        name: an embedded model (`small-llava`, `tiny-llava`), a directory, or a hub id. An embedded name goes before a
            directory of that name; write `./tiny-llava` for the directory.
        device: `auto` (a GPU where there is one), or as torch names it.
        dtype: `auto` (the checkpoint's own), `float32`, `bfloat16` or `float16`.

    Raises:
        OSError: no such directory, files missing in it, or the hub cannot be reached.
        ValueError: unknown name, device or dtype; a checkpoint that no stock transformers class or no adapter knows.
    """
    from transformers import AutoModelForImageTextToText

    models: Any = AutoModelForImageTextToText  # transformers leaves its loaders untyped
    where = check_target(device, dtype)
    place, local = locate(name)
    check_config(place, local_files_only=local)
    options: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    processor = _processor(name, place, options)
    model, info = models.from_pretrained(place, dtype=dtype, output_loading_info=True, **options)
    # transformers fills such gaps with random numbers and only warns, so that the answers would be nonsense.
    gaps = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if gaps:
        raise ValueError(
            f"{name}: its weights lack or misfit {len(gaps)} of the model's, such as {gaps[0]}; fetch it again"
        )
    return model.to(where).eval(), processor


def load_processor(name: str | Path) -> tuple[Any, str]:
    """The processor of the model `name`, of which no weight is read, and where its files lie, as `locate` says.

    Raises:
        OSError, ValueError: see `load`.
    """
    place, local = locate(name)
    return _processor(name, place, {"local_files_only": local, "trust_remote_code": False}), place


def _processor(name: str | Path, place: str, options: dict[str, Any]) -> Any:
    from transformers import AutoProcessor

    processors: Any = AutoProcessor
    try:
        return processors.from_pretrained(place, **options)
    except AttributeError as error:  # so transformers says that a tokenizer lacks the tokens its processor needs
        raise ValueError(f"{name}: its processor cannot be built: {error}; fetch its files again") from error


def check_target(device: str, dtype: str) -> str:
    """The device as torch names it. ValueError for a device or a dtype that `load` does not take."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}; expected one of {', '.join(DTYPES)}")
    return _device(device)


def locate(name: str | Path) -> tuple[str, bool]:
    """Return where `name` is loaded from, and whether only files on this machine are to be read.

    Raises:
        TypeError: `name` is neither text nor a path.
        OSError: no such directory, an embedded model that was not fetched, or the hub cannot be reached and holds
            nothing of it in its cache here.
        ValueError: a name that is neither embedded nor a directory nor a hub id, or an id that the hub does not have.
    """
    from vtc import embedded

    if not isinstance(name, str | Path):
        raise TypeError(f"model={name!r} is a {type(name).__name__}; expected a name, a directory or a hub id")
    if isinstance(name, Path):  # a directory, also where an embedded model is called so
        name = str(name.expanduser().absolute())
    if name in embedded.VIEW_OF:
        return str(embedded.path(name)), True
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"model={name!r}: the directory holds no config.json; pass that of a saved model")
        return str(path), True
    if path.is_file():
        raise NotADirectoryError(f"model={name!r} is a file; pass the directory that holds its config.json")
    if name.startswith((".", "~", "/")) or name.count("/") > 1:
        raise FileNotFoundError(f"model={name!r}: no such directory")
    if "/" not in name:
        raise ValueError(
            f"model={name!r} is unknown{nearest(name, embedded.VIEW_OF)} (expected {', '.join(embedded.VIEW_OF)}, a "
            "directory, or a hub id such as 'llava-hf/llava-1.5-7b-hf')"
        )
    return name, _must_stay_local(name)


def _must_stay_local(name: str) -> bool:
    """Return whether the hub is out of reach while its cache on this machine knows the model."""
    from huggingface_hub import try_to_load_from_cache

    failure = _ask_hub(name)
    if failure is None:
        return False
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return True
    raise ConnectionError(
        f"model={name!r}: the Hugging Face hub could not be reached ({failure}), and its cache on this machine does "
        "not hold the model; without network, 'tiny-llava' and models in a directory work"
    )


def _ask_hub(name: str) -> str | None:
    """None if the hub knows `name`, or why it could not be asked.

    In a thread, since looking up the hub's address can hang for longer than any timeout of a request.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    caught: list[Exception | None] = []

    def ask() -> None:
        try:
            HfApi().model_info(name, timeout=PATIENCE)
            caught.append(None)
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE + 1)
    if not caught:
        return f"no answer within {PATIENCE:.0f} s"
    error = caught[0]
    if isinstance(error, GatedRepoError):
        raise ValueError(f"model={name!r} is gated: accept its terms on the hub and run `hf auth login`") from error
    if isinstance(error, RepositoryNotFoundError):
        raise ValueError(
            f"model={name!r} is not on the Hugging Face hub, or is private there; without network, 'tiny-llava' works"
        ) from error
    if isinstance(error, HFValidationError):
        raise ValueError(f"model={name!r} is no hub id: {error}") from error
    return None if error is None else f"{type(error).__name__}: {error}"


def check_config(place: str, *, local_files_only: bool = True) -> None:
    """Refuses, before any weight is read, a checkpoint that could not be reduced or would be misread.

    Raises:
        OSError: no readable config.
        ValueError: an architecture of another format, a model that takes no images, or one without an adapter.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig

    from vtc.adapters import check_architecture, find

    raw, _ = PretrainedConfig.get_config_dict(place, local_files_only=local_files_only)
    kind = str(raw.get("model_type"))
    check_architecture([*(raw.get("architectures") or []), FOREIGN_TYPES.get(kind, "")])
    try:
        if "model_type" not in raw:  # transformers would guess it from the directory's name
            raise KeyError("model_type")
        config = AutoConfig.from_pretrained(place, local_files_only=local_files_only, trust_remote_code=False)
    except (ValueError, KeyError) as error:
        remedy = "it brings code of its own, which is never run; " if raw.get("auto_map") else ""
        raise ValueError(
            f"{place} has model_type {raw.get('model_type')!r}, which this transformers does not know; {remedy}"
            "load a checkpoint converted to a stock transformers class (often named '-hf')"
        ) from error
    models: Any = AutoModelForImageTextToText
    if type(config) not in models._model_mapping:
        raise ValueError(f"{place} has model_type {kind!r}, which does not take images; load a vision-language model")
    with torch.device("meta"):
        find(models.from_config(config))


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name!r} is unknown; expected auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={name!r}: this machine has {torch.cuda.device_count()} such devices; try 'auto'")
    return name
