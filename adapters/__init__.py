"""Adapters: one file a family. `FAMILIES` is where a new one is enrolled."""

from __future__ import annotations

from torch import nn

from .base import Adapter, Media
from .generic import Generic, GenericGrid, missing
from .internvl import InternVL
from .llama4 import Llama4
from .llava import Llava
from .llava_next import LlavaNext
from .llava_onevision import LlavaOnevision
from .qwen3_vl import Qwen3VL
from .qwen_vl import Qwen2VL, Qwen25VL
from .unserved import why_unserved

FAMILIES: tuple[type[Adapter], ...] = (
    Llava,
    LlavaNext,
    LlavaOnevision,
    Qwen2VL,
    Qwen25VL,
    Qwen3VL,
    InternVL,
    Llama4,
    GenericGrid,
    Generic,
)
"""Tried in this order; the generic ones last, since they serve whatever has the seam."""

FOREIGN = {
    "LlavaLlamaForCausalLM": "an original-format LLaVA checkpoint; load a converted one, e.g. "
    "'llava-hf/llava-1.5-7b-hf'",
    "LlavaMistralForCausalLM": "an original-format LLaVA checkpoint; load a converted one, e.g. "
    "'llava-hf/llava-v1.6-mistral-7b-hf'",
    "LlavaQwenForCausalLM": "an original-format LLaVA checkpoint; load a converted one, e.g. "
    "'llava-hf/llava-onevision-qwen2-7b-ov-hf'",
    "InternVLChatModel": "a remote-code InternVL checkpoint; load a converted one, e.g. 'OpenGVLab/InternVL3-8B-hf'",
}
"""Architectures that look like ours and are not, with the kind that works."""


def check_architecture(names: list[str]) -> None:
    """Refuses checkpoints whose weights a stock class would misread.

    Raises:
        ValueError: one of `names` is known to be no stock transformers architecture.
    """
    for name in names:
        if name in FOREIGN:
            raise ValueError(f"model architecture {name!r} is {FOREIGN[name]}")


def find(model: nn.Module) -> Adapter:
    """The adapter for `model`.

    Raises:
        TypeError: `model` is no module.
        ValueError: no adapter knows the class; the message says what would work.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} is a {type(model).__name__}; expected a transformers vision-language model")
    lineage = [cls.__name__ for cls in type(model).__mro__]
    check_architecture([*lineage, *(getattr(getattr(model, "config", None), "architectures", None) or [])])
    reason = why_unserved(lineage)
    if reason is not None:
        raise ValueError(
            f"model class {lineage[0]!r} is not served: {reason}; it needs an adapter of its own (about 100 lines, see "
            "CONTRIBUTING.md)"
        )
    for family in FAMILIES:
        if family.serves(model):
            return family(model)
    known = [name for family in FAMILIES for name in family.classes]
    raise ValueError(
        f"model class {lineage[0]!r} has no adapter (known: {', '.join(known)}; pass the "
        f"class with the language-model head); the generic adapter does not serve it, since {missing(model)}"
    )


__all__ = ["FAMILIES", "FOREIGN", "Adapter", "Media", "check_architecture", "find"]
