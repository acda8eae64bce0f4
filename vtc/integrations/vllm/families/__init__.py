"""The families that are served, and what they have in common."""

from .base import Family, GeometryOnly
from .gemma4 import Gemma4Family
from .generic import Gemma3Family, SmolVLMFamily
from .internvl import InternVLFamily
from .llava import LlavaFamily, LlavaNextFamily, LlavaOnevisionFamily
from .qwen import Qwen2Family, Qwen3Family, Qwen25Family, Qwen35Family

__all__ = [
    "Family",
    "Gemma3Family",
    "Gemma4Family",
    "GeometryOnly",
    "InternVLFamily",
    "LlavaFamily",
    "LlavaNextFamily",
    "LlavaOnevisionFamily",
    "Qwen2Family",
    "Qwen3Family",
    "Qwen25Family",
    "Qwen35Family",
    "SmolVLMFamily",
]
