"""All classes of transformers that take images beside text, and what becomes of each when it is wrapped."""

from __future__ import annotations

import re
from typing import Any

import torch
import transformers as hf
from torch import nn
from transformers.models.auto import modeling_auto

from vtc.adapters import find

MAPPINGS = ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES")


def mapped() -> list[str]:
    """The classes of both mappings that the installed transformers has, in alphabetical order."""
    found: set[str] = set()
    for mapping in MAPPINGS:
        for value in getattr(modeling_auto, mapping, {}).values():
            found.update([value] if isinstance(value, str) else value)
    return sorted(name for name in found if hasattr(hf, name))


def takes_images(name: str) -> bool:
    """Whether a class has an encoder for images or videos; speech recognisers are in the mappings too."""
    taken = getattr(getattr(hf, name), "input_modalities", ("image",))
    return not {"image", "video"}.isdisjoint([taken] if isinstance(taken, str) else taken)


def skeleton(name: str) -> Any:
    """A model without weights, from the class's default config; without parts where that makes no model."""
    made = getattr(hf, name)
    try:
        with torch.device("meta"):
            return made(made.config_class())
    except Exception:  # defaults that contradict each other fail in many ways
        bare = made.__new__(made)
        nn.Module.__init__(bare)
        return bare


def refusal(name: str) -> str | None:
    """Why a class is refused when it is wrapped; None if it is not."""
    try:
        find(skeleton(name))
    except ValueError as error:
        found = re.search(r"(?:since|is not served:) +([^;]+)", str(error))
        return found[1] if found else str(error)
    except Exception:  # a model without parts, of a class that is not refused by what it lacks
        return None
    return None
