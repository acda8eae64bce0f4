"""What each family's encoder gives for one image, by hand. `ENCODERS` is where a family's encoder is enrolled."""

from tests.encoders.anyres import AnyResEncoder, NextVideoEncoder, OnevisionEncoder
from tests.encoders.base import (
    Image,
    Outputs,
    ReferenceEncoder,
    Softmaxes,
)
from tests.encoders.gemma4 import Gemma4Encoder, Gemma4UnifiedEncoder
from tests.encoders.generic import (
    Gemma3Encoder,
    Mistral3Encoder,
    SmolVLMEncoder,
)
from tests.encoders.glm4v import GlmEncoder
from tests.encoders.internvl import InternVLEncoder
from tests.encoders.lfm2_vl import Lfm2Encoder
from tests.encoders.llava import LlavaEncoder
from tests.encoders.qwen import Qwen25Encoder, QwenEncoder

ENCODERS: dict[str, ReferenceEncoder] = {
    "llava": LlavaEncoder(),
    "llava-siglip": LlavaEncoder(),
    "llava-full": LlavaEncoder(),
    "qwen2vl": QwenEncoder(),
    "qwen25vl": Qwen25Encoder(),
    "qwen25vl-video": Qwen25Encoder(),
    "qwen3vl": QwenEncoder(),
    "qwen3vl-video": QwenEncoder(),
    "qwen3vl-moe": QwenEncoder(),
    "llava-next": AnyResEncoder(),
    "llava-next-siglip": AnyResEncoder(),
    "llava-next-video-images": AnyResEncoder(),
    "llava-next-video": NextVideoEncoder(),
    "llava-onevision": OnevisionEncoder(),
    "llava-onevision-video": OnevisionEncoder(),
    "llava-onevision-several": OnevisionEncoder(),
    "internvl": InternVLEncoder(),
    "smolvlm": SmolVLMEncoder(),
    "mistral3": Mistral3Encoder(),
    "gemma3": Gemma3Encoder(),
    "gemma4": Gemma4Encoder(),
    "gemma4-video": Gemma4Encoder(),
    "gemma4-small": Gemma4Encoder(),
    "gemma4-unified": Gemma4UnifiedEncoder(),
    "glm4v": GlmEncoder(),
    "glm4v-video": GlmEncoder(),
    "glm-ocr": GlmEncoder(),
    "glm46v": GlmEncoder(),
    "glm4v-moe": GlmEncoder(),
    "lfm2-vl": Lfm2Encoder(),
    "qwen35": QwenEncoder(),
    "qwen35-video": QwenEncoder(),
    "qwen35-moe": QwenEncoder(),
}

__all__ = ["ENCODERS", "Image", "Outputs", "ReferenceEncoder", "Softmaxes"]
