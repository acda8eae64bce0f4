"""What each family's encoder gives for one picture, by hand. `EYES` is where a family's eye is enrolled."""

from .base import Eye, Outputs, Picture, Softmaxes
from .llava import LlavaEye
from .qwen import Qwen25Eye, QwenEye

EYES: dict[str, Eye] = {
    "llava": LlavaEye(),
    "llava-siglip": LlavaEye(),
    "llava-full": LlavaEye(),
    "qwen2vl": QwenEye(),
    "qwen25vl": Qwen25Eye(),
    "qwen25vl-film": Qwen25Eye(),
    "qwen3vl": QwenEye(),
    "qwen3vl-film": QwenEye(),
}

__all__ = ["EYES", "Eye", "Outputs", "Picture", "Softmaxes"]
