"""Vision-language models at their real sizes with random weights: what a call takes does not depend on them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vtc.core.registry import nearest

from . import published_configs as configs
from . import random_requests as requests

SHARE = 0.6
"""Of the free memory, that weights may take."""
BLOCK = 2**20


@dataclass(frozen=True)
class Architecture:
    """A model's shape, and requests for it.

    Attributes:
        name: as `--arch` takes it.
        config: makes its config in transformers.
        requests: makes the inputs of a batch about so many images each, from the model.
        parameters: how many the published checkpoint has.
    """

    name: str
    config: Callable[[], Any]
    requests: requests.Requests
    parameters: float


def build(
    name: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    memory: float | None = None,
    layers: int | None = None,
) -> tuple[Any, str]:
    """The model `name` with random weights, and in words what of it was left out.

    Args:
        memory: bytes that its weights may take; None: a share of what is free.
        layers: of its language model at most; None: as many as memory holds.

    Returns:
        The model in evaluation mode, and the remark, which is empty where all of it is there.

    Raises:
        ValueError: an unknown name, too little memory, or `layers` is out of range.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.initialization import no_init_weights

    models: Any = AutoModelForImageTextToText
    config = architecture(name).config()
    whole, least = config.text_config.num_hidden_layers, _least(config)
    if layers is not None and not least <= layers <= whole:
        raise ValueError(f"--layers {layers}: pass {least} to {whole}, which {name} has in its language model")
    fitting = _fitting(models, config, dtype, _free(device) * SHARE if memory is None else memory)
    if fitting < least:
        raise ValueError(f"--arch {name}: not even {least} of its {whole} layers fit into memory; take a smaller one")
    kept = min(fitting, layers or whole)
    cut: dict[str, Any] = {"num_hidden_layers": kept}
    if getattr(config.text_config, "layer_types", None):
        cut["layer_types"] = config.text_config.layer_types[:kept]
    if shared := getattr(config.text_config, "num_kv_shared_layers", 0):  # the last ones
        cut["num_kv_shared_layers"] = max(0, kept - whole + shared)
    for field, value in cut.items():
        setattr(config.text_config, field, value)
    with no_init_weights():
        model = models.from_config(config, dtype=dtype)
    _fill(model)
    return model.to(device).eval(), _remark(kept, whole, layers)


def _remark(kept: int, whole: int, asked: int | None) -> str:
    if kept == whole:
        return ""
    why = "as asked for" if kept == asked else "since memory holds no more"
    return f"{kept} of its {whole} language-model layers, {why}"


def _least(config: Any) -> int:
    """Return up to which layer the language model must go: a cache counts tokens where attention is full."""
    types = getattr(config.text_config, "layer_types", None) or ["full_attention"]
    return 1 + types.index("full_attention") if "full_attention" in types else 1


def _fitting(models: Any, config: Any, dtype: torch.dtype, memory: float) -> int:
    """Return how many layers of the language model fit into `memory` bytes, with all the rest."""
    with torch.device("meta"):
        model = models.from_config(config)
    from vtc.adapters import find

    layers = list(find(model).decoder.layers)
    size = torch.empty(0, dtype=dtype).element_size()
    inside = max(sum(p.numel() for p in layer.parameters()) for layer in layers)
    everything = {id(p): p.numel() for p in model.parameters()}
    rest = sum(everything.values()) - sum(p.numel() for layer in layers for p in layer.parameters())
    return min(len(layers), int((memory / size - rest) // inside))


@torch.no_grad()
def _fill(model: Any) -> None:
    """Fill all parameters with small random numbers; a block is repeated, as billions of draws would take minutes."""
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)) * 0.02
    for parameter in model.parameters():
        flat = parameter.view(-1)
        for start in range(0, len(flat), BLOCK):
            part = flat[start : start + BLOCK]
            part.copy_(block[: len(part)])
        if parameter.ndim == 1:  # scales of norms
            parameter.add_(1.0)


def _free(device: str) -> float:
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(torch.device(device))[0])
    known = Path("/proc/meminfo")
    if known.is_file():  # what the kernel could give, its page cache among it
        lines = dict(line.split(":", 1) for line in known.read_text().splitlines())
        return float(lines["MemAvailable"].split()[0]) * 1024
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def architecture(name: str) -> Architecture:
    """The architecture called `name`. ValueError for an unknown one."""
    if name not in ARCHITECTURES:
        raise ValueError(
            f"--arch {name!r} is unknown{nearest(name, ARCHITECTURES)} (known: {', '.join(ARCHITECTURES)})"
        )
    return ARCHITECTURES[name]


ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture("llava-1.5-7b", configs.llava, requests.llava, 7.06e9),
        Architecture("llava-next-7b", configs.llava_next, requests.llava_next, 7.06e9),
        Architecture("qwen2.5-vl-3b", configs.qwen25, requests.qwen(1296), 3.75e9),
        Architecture("qwen3-vl-4b", configs.qwen3, requests.qwen(1024), 4.44e9),
        Architecture("qwen3.5-4b", configs.qwen35, requests.qwen(1024), 4.54e9),
        Architecture("gemma4-e4b", configs.gemma4, requests.gemma4, 8.0e9),
        Architecture("internvl3-2b", configs.internvl, requests.internvl, 2.09e9),
    )
}
