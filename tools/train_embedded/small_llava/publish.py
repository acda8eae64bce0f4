"""Package a run of `small-llava`: `python -m tools.train_embedded.small_llava.publish RUN/trained.pt --language DIR`.

Writes tower, projector and low-rank deltas as float16, config, generation config and processor to
`vtc/embedded/weights/small-llava/`, and their sum; the card and the chat template there stay as they are.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, CLIPImageProcessor, GenerationConfig, LlavaConfig

from tools.train_embedded.model_specs.base import PATCH
from tools.train_embedded.model_specs.llava import vision_config
from tools.train_embedded.publish import write_sums
from tools.train_embedded.small_llava.model import SIDE
from vtc.embedded.small_llava import ADAPTER, PACKAGED
from vtc.embedded.small_llava.language_model import HUB

LANGUAGE = "model.language_model."


def main(arguments: list[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="tools.train_embedded.small_llava.publish", description=__doc__)
    parser.add_argument("weights", type=Path, help="trained.pt or checkpoint.pt of a run")
    parser.add_argument("--language", type=Path, required=True, help="SmolLM2-135M-Instruct, a folder")
    options = parser.parse_args(arguments)
    held = torch.load(options.weights, weights_only=True, map_location="cpu")
    PACKAGED.mkdir(parents=True, exist_ok=True)
    save_file(packaged(held.get("masters", held)), ADAPTER)
    ADAPTER.chmod(0o644)  # safetensors lets nobody else read
    write_sums(PACKAGED.parent)
    config(options.language).save_pretrained(PACKAGED)
    GenerationConfig(
        do_sample=False, max_new_tokens=64, pad_token_id=2, bos_token_id=1, eos_token_id=2
    ).save_pretrained(PACKAGED)
    CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(PACKAGED)


def packaged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trained weights by the names that `small_llava.assembly` reads."""
    out = {}
    for name, value in weights.items():
        for old, new in ((".lora_A.default.weight", ".lora_a"), (".lora_B.default.weight", ".lora_b")):
            name = name.replace(old, new)
        out[name.removeprefix(LANGUAGE)] = value.half().contiguous()
    return {name: value for name, value in out.items() if not name.endswith("position_ids")}


def config(language: Path) -> LlavaConfig:
    """Of the whole model; one word more than the language model's, for the image."""
    text = AutoConfig.from_pretrained(language)
    text.dtype, text._name_or_path = torch.float32, HUB
    vars(text).pop("_model_name_or_path", None)  # the GGUF file's title
    words = text.vocab_size
    text.vocab_size = words + 1
    out = LlavaConfig(
        vision_config=vision_config(SIDE),
        text_config=text,
        image_token_index=words,
        image_seq_length=(SIDE // PATCH) ** 2,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        tie_word_embeddings=True,
        architectures=["LlavaForConditionalGeneration"],
    )
    out.dtype = out.vision_config.dtype = torch.float32
    return out


if __name__ == "__main__":
    main()
