"""What each family's encoder gives for one image, by hand. `EYES` is where a family's eye is enrolled."""

from tests.eyes.anyres import AnyResEye, OnevisionEye
from tests.eyes.base import (
    Eye,
    Image,
    Outputs,
    Softmaxes,
)
from tests.eyes.generic import (
    Gemma3Eye,
    Mistral3Eye,
    Qwen35Eye,
    SmolVLMEye,
)
from tests.eyes.internvl import InternVLEye
from tests.eyes.llava import LlavaEye
from tests.eyes.qwen import Qwen25Eye, QwenEye

EYES: dict[str, Eye] = {
    "llava": LlavaEye(),
    "llava-siglip": LlavaEye(),
    "llava-full": LlavaEye(),
    "qwen2vl": QwenEye(),
    "qwen25vl": Qwen25Eye(),
    "qwen25vl-video": Qwen25Eye(),
    "qwen3vl": QwenEye(),
    "qwen3vl-video": QwenEye(),
    "qwen3vl-moe": QwenEye(),
    "llava-next": AnyResEye(),
    "llava-next-siglip": AnyResEye(),
    "llava-onevision": OnevisionEye(),
    "llava-onevision-video": OnevisionEye(),
    "llava-onevision-several": OnevisionEye(),
    "internvl": InternVLEye(),
    "smolvlm": SmolVLMEye(),
    "mistral3": Mistral3Eye(),
    "gemma3": Gemma3Eye(),
    "qwen35": Qwen35Eye(),
    "qwen35-video": Qwen35Eye(),
}

__all__ = ["EYES", "Eye", "Image", "Outputs", "Softmaxes"]
