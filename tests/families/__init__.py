"""Small random models of each family, with spread weights, and prompts. `FAMILIES` is where one is enrolled."""

from .common import (
    BOS,
    END,
    EOS,
    IMAGE,
    PAD,
    START,
    TEXT,
    VIDEO,
    VOCAB,
    Family,
    Row,
    padded,
    placeholders,
    text,
    visual,
)
from .llava import LLAVA, LLAVA_VARIANTS, llava, llava_inputs
from .qwen import QWEN, qwen25vl, qwen_inputs

FAMILIES: tuple[Family, ...] = (LLAVA, *QWEN)
VARIANTS: tuple[Family, ...] = LLAVA_VARIANTS
"""Further kinds of a family's models, for the checks that can tell them apart."""

__all__ = [
    "BOS",
    "END",
    "EOS",
    "FAMILIES",
    "IMAGE",
    "PAD",
    "START",
    "TEXT",
    "VARIANTS",
    "VIDEO",
    "VOCAB",
    "Family",
    "Row",
    "llava",
    "llava_inputs",
    "padded",
    "placeholders",
    "qwen25vl",
    "qwen_inputs",
    "text",
    "visual",
]
