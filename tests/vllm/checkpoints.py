"""Small checkpoints of families that no embedded model is of: random weights, spread, beside a real processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.families.common import centred, spread
from vtc import embedded

VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
PATCH, SIDE = 7, 4
TILE = PATCH * SIDE
GRIDS = ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (3, 2))
PINPOINTS = [[rows * TILE, columns * TILE] for rows, columns in GRIDS]
TURN = (
    "{% for message in messages %}user : {% for part in message['content'] %}"
    "{{ MARKS[part['type']] if part['type'] in MARKS else part['text'] }} {% endfor %}{% endfor %}assistant :"
)


def tokenizer_with(*special: str, plain: tuple[str, ...] = (), **named: str) -> Any:
    """The tokenizer of an embedded model and further tokens, some of them known by a name."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(
        embedded.path("tiny-llava"), **({"extra_special_tokens": named} if named else {})
    )
    found.add_special_tokens({"additional_special_tokens": list(special)}, replace_extra_special_tokens=False)
    found.add_tokens(list(plain))
    return found


def template(**marks: str) -> str:
    """A chat template that puts `marks` where images and videos are."""
    return "{% set MARKS = " + repr(marks) + " %}" + TURN


def saved(model: nn.Module, processor: Any, folder: Path, placeholders: list[int]) -> Path:
    """The folder of a checkpoint. The model never says a placeholder of its own accord."""
    with torch.no_grad():
        model.get_output_embeddings().weight[placeholders] = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def text_config(kind: Any, tokenizer: Any, **more: Any) -> Any:
    """The config of a language model with the tokenizer's words."""
    return kind(vocab_size=len(tokenizer), **{**TEXT, **more})


def llava_next(folder: Path, tower: str = "clip") -> Path:
    """LLaVA-NeXT: tiles of 4 x 4 tokens, up to 6."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
        SiglipVisionConfig,
    )

    kind, strategy, extra = {"clip": (CLIPVisionConfig, "default", 1), "siglip": (SiglipVisionConfig, "full", 0)}[tower]
    tokenizer = tokenizer_with()
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaNextConfig(
        vision_config=kind(**VISION, image_size=TILE, patch_size=PATCH),
        text_config=text_config(LlamaConfig, tokenizer),
        image_token_index=image,
        vision_feature_select_strategy=strategy,
        image_grid_pinpoints=PINPOINTS,
        tie_word_embeddings=False,
    )
    processor = LlavaNextProcessor(
        LlavaNextImageProcessor(
            size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}, image_grid_pinpoints=PINPOINTS
        ),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=extra,
        chat_template=template(image="<image>"),
    )
    return saved(spread(LlavaNextForConditionalGeneration(config)), processor, folder, [image])


CROPS = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 32}
"""Options of a call of Gemma 3's processor by which it cuts crops of long images."""


def gemma3(folder: Path) -> Path:
    """Gemma 3: images of 4 x 4 tokens, and layers that see 48 tokens back."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = tokenizer_with(*names.values(), plain=(" ", *("\n" * count for count in range(1, 5))), **names)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    more = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 48, "layer_types": layers}
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**VISION, image_size=64, patch_size=8, vision_use_head=False),
        text_config=text_config(Gemma3TextConfig, tokenizer, **more),
        mm_tokens_per_image=16,
        image_token_index=ids["image_token"],
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
        tie_word_embeddings=False,
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": 64, "width": 64}),
        tokenizer,
        image_seq_length=16,
        chat_template=template(image="<start_of_image>"),
    )
    model = centred(spread(Gemma3ForConditionalGeneration(config)), "Gemma3RMSNorm")
    return saved(model, processor, folder, list(ids.values()))


def gemma4(folder: Path) -> Path:
    """Gemma 4: images of up to 70 tokens of 3 x 3 patches, layers with a window, and further embeddings a layer."""
    from tokenizers.processors import Sequence
    from transformers import (
        Gemma4AudioFeatureExtractor,
        Gemma4Config,
        Gemma4ForConditionalGeneration,
        Gemma4ImageProcessor,
        Gemma4Processor,
        Gemma4TextConfig,
        Gemma4VideoProcessor,
    )

    names = {f"{part}_token": f"<|{part}|>" for part in ("image", "audio", "boi", "eoi", "boa", "eoa")}
    tokenizer = tokenizer_with("<|video|>", *names.values(), plain=(" ",), **names)
    tokenizer.backend_tokenizer.post_processor = Sequence([])  # vLLM puts no first token before prompts of Gemma 4
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    text = text_config(
        Gemma4TextConfig,
        tokenizer,
        head_dim=32,
        global_head_dim=64,
        sliding_window=48,
        rms_norm_eps=0.1,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=len(tokenizer),
    )
    tower = dict(**VISION, head_dim=16, num_key_value_heads=2, patch_size=4, position_embedding_size=256)
    config = Gemma4Config(
        vision_config={**tower, "default_output_length": 70},
        text_config=text,
        audio_config=None,
        image_token_id=ids["image_token"],
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
        audio_token_id=ids["audio_token"],
        boi_token_id=ids["boi_token"],
        eoi_token_id=ids["eoi_token"],
        tie_word_embeddings=False,
    )
    options = dict(patch_size=4, max_soft_tokens=70)
    processor = Gemma4Processor(
        Gemma4AudioFeatureExtractor(),
        Gemma4ImageProcessor(**options),
        tokenizer,
        Gemma4VideoProcessor(**options),
        chat_template=template(image="<|image|>"),
    )
    return saved(spread(Gemma4ForConditionalGeneration(config)), processor, folder, list(ids.values()))


def llava_onevision(folder: Path) -> Path:
    """LLaVA-OneVision: tiles of 4 x 4 tokens, up to 12, of which more than nine are shrunk; videos."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )

    points = [*PINPOINTS, [3 * TILE, 4 * TILE]]
    tokenizer = tokenizer_with("<video>")
    image, video = tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION, image_size=TILE, patch_size=PATCH, vision_use_head=False),
        text_config=text_config(Qwen2Config, tokenizer),
        image_token_index=image,
        video_token_index=video,
        image_grid_pinpoints=points,
        tie_word_embeddings=False,
    )
    size = {"height": TILE, "width": TILE}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=points),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=SIDE**2,
        vision_feature_select_strategy="full",
        chat_template=template(image="<image>", video="<video>"),
    )
    return saved(spread(LlavaOnevisionForConditionalGeneration(config)), processor, folder, [image, video])


def smolvlm(folder: Path) -> Path:
    """SmolVLM: tiles of 4 x 4 tokens, and all of the image as one more. Needs num2words, if only for videos."""
    from transformers import (
        LlamaConfig,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
        SmolVLMVisionConfig,
    )

    rows = [f"<row_{y}_col_{x}>" for y in range(1, 5) for x in range(1, 5)]
    tokenizer = tokenizer_with(
        "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *rows, plain=("\n", "\n\n")
    )
    image = tokenizer.convert_tokens_to_ids("<image>")
    tile = {"longest_edge": 32}
    config = SmolVLMConfig(
        vision_config=SmolVLMVisionConfig(**VISION, image_size=32, patch_size=4),
        text_config=text_config(LlamaConfig, tokenizer),
        scale_factor=2,
        pad_token_id=0,
        image_token_id=image,
        tie_word_embeddings=False,
    )
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(size={"longest_edge": 128}, max_image_size=tile),
        tokenizer,
        SmolVLMVideoProcessor(size={"longest_edge": 128}, max_image_size=tile),
        image_seq_len=16,
        chat_template=template(image="<image>"),
    )
    return saved(spread(SmolVLMForConditionalGeneration(config)), processor, folder, [image])
