"""Images and prompts as the real processors give them, from chat template to answer."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    pipeline,
)

from tests.families import (
    END,
    IMAGE,
    START,
    VIDEO,
    VOCAB,
    qwen25vl,
)
from vtc import embedded, reduce_tokens
from vtc.embedded.scene import HELD_OUT, Scene

SPECIAL = {
    "<|image_pad|>": IMAGE,
    "<|video_pad|>": VIDEO,
    "<|vision_start|>": START,
    "<|vision_end|>": END,
    "<pad>": 0,
    "[UNK]": 3,
}


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    free = iter(i for i in range(VOCAB) if i not in SPECIAL.values())
    words = {word: next(free) for word in ["<s>", "</s>", *(f"w{i}" for i in range(80))]}
    core = Tokenizer(models.WordLevel({**words, **SPECIAL}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="[UNK]",
        padding_side="left",
        additional_special_tokens=list(SPECIAL)[:4],
    )


def qwen_processor() -> Qwen2_5_VLProcessor:
    size = {"shortest_edge": 8 * 8, "longest_edge": 96 * 96}
    options = dict(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
    return Qwen2_5_VLProcessor(Qwen2VLImageProcessor(**options), qwen_tokenizer(), Qwen2VLVideoProcessor(**options))


def stripes(width: int, height: int) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def test_qwen_images_of_unlike_sizes_in_a_batch():
    processor, model = qwen_processor(), qwen25vl()
    slot = "<|vision_start|><|image_pad|><|vision_end|>"
    inputs = processor(
        images=[[stripes(64, 40)], [stripes(32, 96), stripes(16, 16)]],
        text=[f"w1 w2 {slot} w3", f"{slot} w4 w5 {slot} w6 w7 w8"],
        padding=True,
        return_tensors="pt",
    )
    stock = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    reduce_tokens(model, "kcenter", keep=0.5)
    out = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    prompt = inputs["input_ids"].shape[1]
    assert torch.equal(out[:, :prompt], stock[:, :prompt])
    grids = [unit.grid for item in model.vtc.report.items for unit in item.units]
    assert grids == [tuple(g) for g in (inputs["image_grid_thw"] // torch.tensor([1, 2, 2])).tolist()]
    assert [item.row for item in model.vtc.report.items] == [0, 1, 1]
    assert [item.after for item in model.vtc.report.items] == model.vtc.count(**inputs)


@pytest.fixture(scope="module")
def tiny_llava():
    path = embedded.path("tiny-llava")
    return AutoModelForImageTextToText.from_pretrained(path).eval(), AutoProcessor.from_pretrained(path)


def chat(question: str, image: Image.Image) -> list[dict]:
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]


def ask(model, processor, question: str, image: Image.Image) -> str:
    inputs = processor.apply_chat_template(
        chat(question, image), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    out = model.generate(**inputs)
    return processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_the_pipeline_answers_as_generate_does(tiny_llava):
    model, processor = tiny_llava
    scene = Scene(HELD_OUT + 1)
    question = scene.questions[0].question
    reduce_tokens(model, "kcenter", keep=0.25)
    pipe = pipeline("image-text-to-text", model=model, processor=processor)
    out = pipe(text=chat(question, scene.image), return_full_text=False)
    assert out[0]["generated_text"].strip() == ask(model, processor, question, scene.image)
    assert model.vtc.report.after * 4 == model.vtc.report.before


def test_a_quarter_of_the_tokens_still_answers(tiny_llava):
    """Ten scenes of unseen seeds: most answers survive losing three quarters of the tokens; one token is not enough."""
    model, processor = tiny_llava
    pairs = [(s, q) for s in map(Scene, range(HELD_OUT + 500, HELD_OUT + 510)) for q in s.questions[:4]]

    def right() -> int:
        return sum(ask(model, processor, q.question, s.image) == q.answer for s, q in pairs)

    reduce_tokens(model, "kcenter", keep=0.25)
    quarter = right()
    reduce_tokens(model, "kcenter", keep=1)
    one = right()
    assert quarter >= len(pairs) // 2
    assert one < quarter


def test_a_processor_that_writes_one_placeholder_is_named(tiny_llava):
    model, processor = tiny_llava
    reduce_tokens(model, keep=0.25)
    image = Scene(HELD_OUT).image
    inputs = dict(processor(images=image, text="user : <image> what is there ? assistant :", return_tensors="pt"))
    ids = inputs["input_ids"]
    token = model.config.image_token_id
    inputs["input_ids"] = torch.cat([ids[:, ids[0] != token][:, :3], torch.full((1, 1), token)], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with pytest.raises(ValueError, match=r"1\].*placeholders.*patch_size"):
        model.generate(**inputs)
