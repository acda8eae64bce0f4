"""The untrained tiny-llava: stock transformers classes, configured small."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from vtc.tiny.questions import plural
from vtc.tiny.world import COLORS, NUMBERS, SHAPES

SIDE, PATCH = 96, 8
GRID = SIDE // PATCH
SPECIAL = ("<pad>", "<s>", "</s>", "[UNK]", "<image>")

# Every word of the questions and answers, then words that people and other prompts are likely to use.
WORDS = (
    "user assistant : ? . , ! a above an and any are at below bottom can center color do does how i image images in is "
    "it left many no not nothing number object objects of on one ones or picture pictures plate right say see shape "
    "shapes show shown that the there this to top what where which yes you first second third video frame next "
    "please tell me describe answer short word colour colours colors text with has have all other same different"
)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] + ' ' }}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def vocabulary() -> dict[str, int]:
    """Each word's id: special tokens first, then the words in a fixed order."""
    names = [*WORDS.split(), *SHAPES, *map(plural, SHAPES), *COLORS, *map(str, range(NUMBERS))]
    return {word: i for i, word in enumerate(dict.fromkeys([*SPECIAL, *names]))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer that lower-cases, splits punctuation off and starts every text with `<s>`."""
    core = Tokenizer(models.WordLevel(vocabulary(), unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="[UNK]",
        additional_special_tokens=["<image>"],
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )


def build_processor() -> LlavaProcessor:
    """The processor: any picture is resized to 96 x 96 without a crop, so nothing is cut off."""
    images = CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=build_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT_TEMPLATE,
    )


def build_model() -> LlavaForConditionalGeneration:
    """The model with random weights: 144 visual tokens a picture, about 2 M parameters."""
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        hidden_act="gelu",
        projection_dim=128,
    )
    text = LlamaConfig(
        vocab_size=-(-len(vocabulary()) // 16) * 16,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        initializer_range=0.05,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=vocabulary()["<image>"],
        image_seq_length=GRID * GRID,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=16, pad_token_id=0, bos_token_id=1, eos_token_id=2
    )
    return model


def save(weights: dict[str, torch.Tensor], directory: Path) -> None:
    """Write `directory` as `from_pretrained` takes it: `weights` as float16, loaded and run as float32."""
    model = build_model()
    model.load_state_dict(weights)
    model.half().save_pretrained(directory)
    config = json.loads((directory / "config.json").read_text())
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = "float32"
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    build_processor().save_pretrained(directory)
