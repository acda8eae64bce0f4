"""Small random models of each family, with spread weights, and prompts. `FAMILIES` is where one is registered."""

from tests.families.common import (
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
from tests.families.gemma3 import GEMMA3
from tests.families.gemma4 import GEMMA4
from tests.families.glm4v import GLM4V
from tests.families.internvl import INTERNVL
from tests.families.lfm2_vl import LFM2_VL
from tests.families.llava import (
    LLAVA,
    LLAVA_VARIANTS,
    llava,
    llava_inputs,
)
from tests.families.llava_next import LLAVA_NEXT, LLAVA_NEXT_VARIANTS
from tests.families.llava_next_video import LLAVA_NEXT_VIDEO
from tests.families.llava_onevision import LLAVA_ONEVISION, LLAVA_ONEVISION_VARIANTS
from tests.families.mistral3 import MISTRAL3
from tests.families.qwen import QWEN, qwen25vl, qwen_inputs
from tests.families.qwen35 import QWEN35
from tests.families.smolvlm import SMOLVLM

FAMILIES: tuple[Family, ...] = (
    LLAVA,
    *QWEN,
    LLAVA_NEXT,
    *LLAVA_NEXT_VIDEO,
    *LLAVA_ONEVISION,
    INTERNVL,
    SMOLVLM,
    MISTRAL3,
    GEMMA3,
    *GEMMA4,
    *QWEN35,
    *GLM4V,
    LFM2_VL,
)
VARIANTS: tuple[Family, ...] = (*LLAVA_VARIANTS, *LLAVA_NEXT_VARIANTS, *LLAVA_ONEVISION_VARIANTS)
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
