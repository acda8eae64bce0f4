"""small-llava before training: `tiny-llava`'s tower at 128 x 128 pixels, a projector, SmolLM2 with a LoRA."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlavaConfig, LlavaForConditionalGeneration

from tools.train_embedded.model_specs.base import PATCH
from tools.train_embedded.model_specs.llava import TinyLlava, vision_config
from vtc.embedded import path

SIDE = 128
RANK = 16
LINEAR = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"


class SmallLlava(TinyLlava):
    """`tiny-llava`'s looks and tower, with 256 visual tokens in place of 196."""

    name, side = "small-llava", SIDE


def build(language_model: Path) -> LlavaForConditionalGeneration:
    """The stock model in bfloat16: the language model of a folder, tiny-llava's tower, a random projector."""
    text = AutoModelForCausalLM.from_pretrained(language_model, dtype=torch.bfloat16)
    config = LlavaConfig(
        vision_config=vision_config(SIDE),
        text_config=text.config,
        image_token_index=text.config.vocab_size,
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.tie_weights()
    _start_tower(model.model.vision_tower)
    return model.bfloat16()


def _start_tower(tower: Any) -> None:
    """Take tiny-llava's weights; its 14 x 14 positions are interpolated."""
    trained = LlavaForConditionalGeneration.from_pretrained(path("tiny-llava"), local_files_only=True).model
    weights = trained.vision_tower.state_dict()
    name = "embeddings.position_embedding.weight"
    weights[name] = _resized(weights[name].float(), SIDE // PATCH)
    weights = {n: w for n, w in weights.items() if not n.endswith("position_ids")}
    missing = tower.load_state_dict(weights, strict=False).missing_keys
    assert all(n.endswith("position_ids") for n in missing), missing


def _resized(positions: Tensor, grid: int) -> Tensor:
    """Positions `[1 + n * n, width]`, the class token's first, for a `grid` x `grid` image."""
    first, rest = positions[:1], positions[1:]
    side = int(len(rest) ** 0.5)
    square = rest.T.reshape(1, -1, side, side)
    wide = F.interpolate(square, (grid, grid), mode="bicubic", align_corners=True)
    return torch.cat([first, wide[0].flatten(1).T])


def add_lora(model: LlavaForConditionalGeneration, rank: int = RANK) -> nn.Module:
    """Give every linear map of the language model a trainable low-rank delta; everything else is frozen."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEAR)
    return inject_adapter_in_model(config, model)
