"""Vision-language models at their real sizes with random weights: what a call takes does not depend on them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vtc.core.registry import nearest

TEXT = 24
"""Tokens before and behind the media of a prompt."""
SHARE = 0.6
"""Of the free memory, that weights may take."""
BLOCK = 2**20


@dataclass(frozen=True)
class Architecture:
    """A model's shape, and requests for it.

    Attributes:
        name: as `--arch` takes it.
        config: makes its config in transformers.
        requests: makes the inputs of a batch about so many images each, from the model.
        parameters: how many the published checkpoint has.
    """

    name: str
    config: Callable[[], Any]
    requests: Callable[[Any, int, int], dict[str, Tensor]]
    parameters: float


def build(name: str, device: str = "cpu", dtype: torch.dtype = torch.bfloat16, memory: float | None = None) -> Any:
    """The model `name` with random weights, and in words what of it was left out to fit into memory.

    Args:
        memory: bytes that its weights may take; None: a share of what is free.

    Returns:
        The model in evaluation mode, and the remark, which is empty where all of it fits.

    Raises:
        ValueError: an unknown name, or not even one layer of its language model fits.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.initialization import no_init_weights

    models: Any = AutoModelForImageTextToText
    config = architecture(name).config()
    whole = config.text_config.num_hidden_layers
    layers = _fitting(models, config, dtype, _free(device) * SHARE if memory is None else memory)
    if layers < 1:
        raise ValueError(f"--arch {name}: not one of its {whole} layers fits into memory; take a smaller one")
    cut = {"num_hidden_layers": layers}
    if layers < whole and getattr(config.text_config, "layer_types", None):
        cut["layer_types"] = config.text_config.layer_types[:layers]
    for field, value in cut.items():
        setattr(config.text_config, field, value)
    with no_init_weights():
        model = models.from_config(config, dtype=dtype)
    _fill(model)
    remark = "" if layers == whole else f"{layers} of its {whole} language-model layers, since memory holds no more"
    return model.to(device).eval(), remark


def _fitting(models: Any, config: Any, dtype: torch.dtype, memory: float) -> int:
    """Return how many layers of the language model fit into `memory` bytes, with all the rest."""
    with torch.device("meta"):
        model = models.from_config(config)
    from vtc.adapters import find

    layers = list(find(model).decoder.layers)
    size = torch.empty(0, dtype=dtype).element_size()
    inside = sum(p.numel() for p in layers[0].parameters())
    seen = {id(p): p.numel() for p in model.parameters()}
    rest = sum(seen.values()) - inside * len(layers)
    return min(len(layers), int((memory / size - rest) // inside))


@torch.no_grad()
def _fill(model: Any) -> None:
    """Fill all parameters with small random numbers; a block is repeated, as billions of draws would take minutes."""
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)) * 0.02
    for parameter in model.parameters():
        flat = parameter.view(-1)
        for start in range(0, len(flat), BLOCK):
            part = flat[start : start + BLOCK]
            part.copy_(block[: len(part)])
        if parameter.ndim == 1:  # scales of norms
            parameter.add_(1.0)


def _free(device: str) -> float:
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(torch.device(device))[0])
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def architecture(name: str) -> Architecture:
    """The architecture called `name`. ValueError for an unknown one."""
    if name not in ARCHITECTURES:
        raise ValueError(
            f"--arch {name!r} is unknown{nearest(name, ARCHITECTURES)} (known: {', '.join(ARCHITECTURES)})"
        )
    return ARCHITECTURES[name]


def _ids(model: Any, batch: int, images: int, tokens: int) -> Tensor:
    """Prompts `[batch, L]`: text, `images` runs of `tokens` placeholders with a word between them, text."""
    config = model.config
    generator = torch.Generator().manual_seed(0)

    def text(count: int) -> Tensor:
        return torch.randint(10, 1000, (batch, count), generator=generator)

    medium = torch.full((batch, tokens), config.image_token_id)
    parts = [text(TEXT)]
    for _ in range(images):
        parts += [medium, text(1)]
    return torch.cat([*parts, text(TEXT)], dim=1)


def _sent(model: Any, ids: Tensor, **more: Tensor) -> dict[str, Tensor]:
    """The inputs on the model's device, pixels in its dtype."""
    made = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more}
    return {
        name: value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
        for name, value in made.items()
    }


def _llava(model: Any, batch: int, images: int) -> dict[str, Tensor]:
    return _sent(model, _ids(model, batch, images, 576), pixel_values=torch.randn(batch * images, 3, 336, 336))


def _llava_next(model: Any, batch: int, images: int) -> dict[str, Tensor]:
    """Images of 672 x 672: four tiles, their rows ended by newlines, and a thumbnail."""
    tokens = 576 + 48 * (48 + 1)
    pixels, sizes = torch.randn(batch * images, 5, 3, 336, 336), torch.full((batch * images, 2), 672)
    return _sent(model, _ids(model, batch, images, tokens), pixel_values=pixels, image_sizes=sizes)


def _qwen(side: int) -> Callable[[Any, int, int], dict[str, Tensor]]:
    """Square images of `side` patches a side."""

    def requests(model: Any, batch: int, images: int) -> dict[str, Tensor]:
        vision = model.config.vision_config
        merge, patch = vision.spatial_merge_size, vision.patch_size
        width = 3 * vision.temporal_patch_size * patch * patch
        ids = _ids(model, batch, images, (side // merge) ** 2)
        return _sent(
            model,
            ids,
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            pixel_values=torch.randn(batch * images * side * side, width),
            image_grid_thw=torch.tensor([[1, side, side]] * (batch * images)),
        )

    return requests


def _internvl(model: Any, batch: int, images: int) -> dict[str, Tensor]:
    """Images of four tiles and a thumbnail."""
    ids = _ids(model, batch, images, 5 * 256)
    return _sent(model, ids, pixel_values=torch.randn(5 * batch * images, 3, 448, 448))


def _clip() -> Any:
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    )


def _vicuna() -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=4096,
        vocab_size=32064,
    )


def _llava_config() -> Any:
    from transformers import LlavaConfig

    return LlavaConfig(vision_config=_clip(), text_config=_vicuna(), image_token_index=32000)


def _llava_next_config() -> Any:
    from transformers import LlavaNextConfig

    pinpoints = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    return LlavaNextConfig(
        vision_config=_clip(), text_config=_vicuna(), image_token_index=32000, image_grid_pinpoints=pinpoints
    )


def _qwen25_config() -> Any:
    from transformers import Qwen2_5_VLConfig

    text = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "max_position_embeddings": 128000,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)


def _qwen3_config() -> Any:
    from transformers import Qwen3VLConfig

    text = {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 262144,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
    }
    vision = {
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "out_hidden_size": 2560,
        "patch_size": 16,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [5, 11, 17],
    }
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)


def _internvl_config() -> Any:
    from transformers import InternVLConfig, InternVLVisionConfig, Qwen2Config

    vision = InternVLVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=[448, 448],
        patch_size=[14, 14],
        attention_bias=True,
    )
    text = Qwen2Config(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        vocab_size=151674,
        max_position_embeddings=32768,
    )
    return InternVLConfig(vision_config=vision, text_config=text, image_token_id=151667, tie_word_embeddings=False)


ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture("llava-1.5-7b", _llava_config, _llava, 7.06e9),
        Architecture("llava-next-7b", _llava_next_config, _llava_next, 7.06e9),
        Architecture("qwen2.5-vl-3b", _qwen25_config, _qwen(72), 3.75e9),
        Architecture("qwen3-vl-4b", _qwen3_config, _qwen(64), 4.44e9),
        Architecture("internvl3-2b", _internvl_config, _internvl, 2.09e9),
    )
}
