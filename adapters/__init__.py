"""Adapters: one file a family. One line here, its import, registers it."""

from __future__ import annotations

import inspect
from typing import TypeVar

from torch import nn

from vtc.core.registry import Registry

from .base import Adapter as Adapter
from .base import Media as Media
from .emu3 import Emu3 as Emu3
from .fuyu import Fuyu as Fuyu
from .gemma4 import Gemma4 as Gemma4
from .gemma4 import Gemma4Unified as Gemma4Unified
from .generic import Generic, GenericGrid, missing
from .glm4v import Glm4V as Glm4V
from .granite_docling import GraniteDocling as GraniteDocling
from .hunyuan import HYV4VL as HYV4VL
from .internvl import InternVL as InternVL
from .lfm2_vl import Lfm2VL as Lfm2VL
from .llama4 import Llama4 as Llama4
from .llava import Llava as Llava
from .llava_next import LlavaNext as LlavaNext
from .llava_next_video import LlavaNextVideo as LlavaNextVideo
from .llava_onevision import LlavaOnevision as LlavaOnevision
from .local_tiles import DeepseekOcr2 as DeepseekOcr2
from .local_tiles import Step3 as Step3
from .local_tiles import UnlimitedOcr as UnlimitedOcr
from .minicpm_v import MiniCPMV as MiniCPMV
from .ovis2 import Ovis2 as Ovis2
from .qwen3_vl import Qwen3VL as Qwen3VL
from .qwen35 import Qwen35 as Qwen35
from .qwen_vl import Qwen2VL as Qwen2VL
from .qwen_vl import Qwen25VL as Qwen25VL
from .unserved import why_unserved
from .video_llama3 import VideoLlama3 as VideoLlama3
from .video_llava import VideoLlava as VideoLlava

A = TypeVar("A", bound=Adapter)

ADAPTERS: Registry[type[Adapter]] = Registry("adapter", plugins=True)
"""Adapters of single families by class name, those of other distributions among them."""
GENERIC: tuple[type[Adapter], ...] = (GenericGrid, Generic)
"""Tried behind all others, since they serve whatever has the seam."""


def register_adapter(adapter: type[A]) -> type[A]:
    """Make an adapter known, ahead of those before it and of the generic ones; a decorator, or a call.

    Args:
        adapter: a class that derives from `Adapter` (see `vtc.adapters.base`) and names the model classes it `serves`.

    Returns:
        The class.

    Raises:
        TypeError: it is no such class.
        ValueError: it serves no class, or its name is taken by another adapter.
    """
    if not isinstance(adapter, type) or not issubclass(adapter, Adapter):
        raise TypeError(f"adapter={adapter!r} is no adapter class; derive it from vtc.adapters.Adapter")
    if inspect.isabstract(adapter):
        lacking = ", ".join(sorted(adapter.__abstractmethods__))
        raise TypeError(f"adapter={adapter.__name__} lacks {lacking}; see vtc.adapters.base")
    if not getattr(adapter, "classes", ()) and "serves" not in vars(adapter):
        raise ValueError(f"adapter={adapter.__name__} names no model class; set `classes`, such as ('LlavaFor...',)")
    return ADAPTERS.add(adapter.__name__, adapter)  # type: ignore[return-value]


for _family in [value for value in globals().values() if isinstance(value, type) and getattr(value, "classes", None)]:
    register_adapter(_family)

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
    """Refuse checkpoints whose weights a stock class would misread.

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
    families = [ADAPTERS.get(name) for name in reversed(list(ADAPTERS))]
    for family in (*families, *GENERIC):
        if family.serves(model):
            return family(model)
    known = [name for family in families for name in family.classes]
    raise ValueError(
        f"model class {lineage[0]!r} has no adapter (known: {', '.join(known)}; pass the "
        f"class with the language-model head); the generic adapter does not serve it, since {missing(model)}"
    )


__all__ = ["ADAPTERS", "FOREIGN", "Adapter", "Media", "check_architecture", "find", "register_adapter"]
