"""Put `small-llava` together: a stock LLaVA from a language model and the packaged adapter."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import ADAPTER, PACKAGED, WEIGHTS
from .language_model import LanguageModel

IMAGE = "<image>"
CONTEXT = 8192
"""Tokens of a prompt and its answer that the language model was trained for."""
LORA = ("lora_a", "lora_b")
SCALE = 2.0
"""What a low-rank delta is multiplied by: LoRA's alpha over its rank (arXiv 2106.09685, section 4.1)."""


def assemble(language_model: LanguageModel, out: Path) -> None:
    """Write the model and its processor to the folder `out`: weights as float16, to be loaded and run as float32.

    Raises:
        ValueError: a language model of other shapes than the adapter's.
        OSError: `out` cannot be written.
    """
    from safetensors import SafetensorError
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig.from_pretrained(PACKAGED, local_files_only=True)
    model = LlavaForConditionalGeneration(config)
    found = model.load_state_dict(merged(language_model.weights), strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["lm_head.weight"], []), found  # which is the embeddings'
    model.tie_weights()
    try:
        model.half().save_pretrained(out)
    except SafetensorError as error:  # so safetensors says that a disk is full
        raise OSError(f"{out}: the weights could not be written: {error}") from error
    for name in ("config.json", "generation_config.json"):
        shutil.copyfile(PACKAGED / name, out / name)
    processor(language_model.tokenizer).save_pretrained(out)
    (out / WEIGHTS).chmod(0o644)  # safetensors lets nobody else read


def merged(base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the whole model, by its names, from those of the language model.

    A delta `B @ A` is added to each matrix that has one; one embedding is added, for the image's placeholder, which no
    text holds and whose value is never read.
    """
    from safetensors.torch import load_file

    adapter = {name: value.float() for name, value in load_file(ADAPTER).items()}
    out = {name: value for name, value in adapter.items() if not name.endswith(LORA)}
    for name, value in base.items():
        pair = [adapter.get(f"{name.removesuffix('.weight')}.{part}") for part in LORA]
        if pair[0] is not None and pair[1] is not None:
            value = _changed(name, value.float(), pair[0], pair[1])
        out[f"model.language_model.{name}"] = value.float()
    words = out["model.language_model.embed_tokens.weight"]
    out["model.language_model.embed_tokens.weight"] = torch.cat([words, words.mean(0, keepdim=True)])
    return out


def _changed(name: str, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if weight.shape != (b.shape[0], a.shape[1]):
        raise ValueError(
            f"{name} of the language model is {tuple(weight.shape)}; the adapter is for {b.shape[0], a.shape[1]}"
        )
    return weight + SCALE * (b @ a)


def processor(tokenizer: Any) -> Any:
    """The stock processor: any image is resized to a square without a crop, so nothing is cut off."""
    from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        **tokenizer.special_tokens_map,
        additional_special_tokens=[IMAGE],
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    images = CLIPImageProcessor.from_pretrained(PACKAGED, local_files_only=True)
    return LlavaProcessor(
        image_processor=images,
        tokenizer=whole,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=(PACKAGED / "chat_template.jinja").read_text(encoding="utf-8"),
    )
