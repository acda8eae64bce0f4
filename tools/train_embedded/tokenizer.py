"""The words that every embedded model knows, its tokenizer and chat template."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from vtc.embedded.questions import plural
from vtc.embedded.spec import COLORS, SHAPES, SYMBOLS

MEDIA = ("<image>", "<img>", "</img>", "<IMG_CONTEXT>", "<|vision_start|>", "<|vision_end|>")
SPECIAL = ("<pad>", "<s>", "</s>", "[UNK]", *MEDIA, "<|image_pad|>", "<|video_pad|>")

# Every word of the questions and answers, then words that people and other prompts are likely to use.
WORDS = (
    "user assistant : ? . , ! a above an and any are at below bottom can center color do does how i image images in is "
    "it left many no not nothing object objects of on one ones or picture pictures plate plates right say see shape "
    "shapes show shown that the there this to top what where which yes you first second third last video frame next "
    "nearest striped plain written text symbol symbols please tell me describe answer short word colour colours colors "
    "with has have all other same different look here another look comes came before after appears appear leaves leave "
    "moves move moved moving becomes become changes change changed often times once twice flashes flash up down into "
    "from out during start end begin when how cut cuts shot shots number letter between seen new old last time way"
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


def chat_template(image: str, video: str | None = None) -> str:
    """The template of conversations, images (and videos) before the text; `image` is what stands for an image."""
    template = CHAT_TEMPLATE.replace("<image>\n", image)
    if video is None:
        return template
    per_video = (
        "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ 'FILM' }}{% endfor %}"
    )
    text = "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    return template.replace(text, per_video.replace("FILM", video) + text)


def vocabulary() -> dict[str, int]:
    """Each word's id: special tokens, words, then each symbol by itself and as the continuation of a text."""
    symbols = [*SYMBOLS.lower()]
    names = [*WORDS.split(), *SHAPES, *map(plural, SHAPES), *COLORS, *symbols, *(f"##{s}" for s in symbols)]
    return {word: i for i, word in enumerate(dict.fromkeys([*SPECIAL, *names]))}


def build_tokenizer(**names: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words; a plate's text is spelled. Lower case, `<s>` first, padded on the left.

    `names` are further special tokens by their attribute (`video_token="<|video_pad|>"`).
    """
    core = Tokenizer(models.WordPiece(vocabulary(), unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    core.decoder = decoders.WordPiece(prefix="##")
    core.add_special_tokens([*SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="[UNK]",
        extra_special_tokens=names,
        padding_side="left",
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )
