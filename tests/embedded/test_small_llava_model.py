"""`small-llava` itself: the stock model that was fetched answers, short and long, and keeps its English."""

from __future__ import annotations

import pytest
import torch

from tools.train_embedded.evaluate import answer
from tools.train_embedded.small_llava.examples import Wording
from vtc import reduced
from vtc.embedded.exam import exact
from vtc.embedded.samples import samples
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.inference.asking import answer as answered
from vtc.inference.asking import compare
from vtc.inference.loading import load
from vtc.inference.prompting import inputs
from vtc.media.images import load_image
from vtc.recipes.named import recipe

SCENES = [Scene(HELD_OUT + i) for i in range(8)]
ASKED = [(scene, question) for scene in SCENES for question in scene.questions[:4]]


@pytest.fixture
def small(users_cache):
    return loaded()


_LOADED = []


def loaded():
    """The model and its processor, loaded once a process."""
    if not _LOADED:
        _LOADED.append(load("small-llava", device="cpu"))
    return _LOADED[0]


def test_it_is_a_stock_llava_of_thirty_layers_and_256_visual_tokens(small):
    model, processor = small
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert model.config.text_config.num_hidden_layers == 30
    assert model.dtype == torch.float32
    made = inputs(model, processor, ["what is it?"], [SCENES[0].image])
    assert int((made["input_ids"] == model.config.image_token_id).sum()) == 256


def test_a_prompt_is_what_training_showed(small):
    model, processor = small
    wording = Wording(processor.tokenizer)
    made = inputs(model, processor, ["what color is the star?"], [SCENES[0].image])["input_ids"][0].tolist()
    asked = wording.turn("what color is the star?", "red").ids
    image = [model.config.image_token_id] * 256
    assert made == wording.opening + image + wording.after_image + asked[: -len(wording.answer("red")) - 1]


@pytest.mark.parametrize(("keep", "least"), [(1.0, 0.85), (0.25, 0.75)])
def test_it_answers_about_unseen_scenes(small, keep, least):
    model, processor = small
    with reduced(model, recipe("kcenter", keep=keep)):
        given = answer(model, processor, [scene.image for scene, _ in ASKED], [q.question for _, q in ASKED])
    right = sum(exact(text, question.answer) for text, (_, question) in zip(given, ASKED, strict=True))
    assert right >= least * len(ASKED), given


def test_without_the_image_it_does_not_know(small):
    model, processor = small
    given = answer(model, processor, None, [question.question for _, question in ASKED])
    assert sum(exact(text, q.answer) for text, (_, q) in zip(given, ASKED, strict=True)) < 0.3 * len(ASKED)


def test_it_still_speaks_english(small):
    model, processor = small
    text = answered(model, processor, inputs(model, processor, ["What is the capital of France?"]), 24)
    assert "Paris" in text


def test_a_quarter_of_the_tokens_reads_the_plate_sooner(small):
    model, processor = small
    sample = next(s for s in samples() if s.skill == "text")
    pair = compare(model, processor, load_image(sample.path), sample.question, recipe("kcenter", keep=0.25))
    assert exact(pair.full, sample.answer)
    assert exact(pair.short, sample.answer)
    assert pair.report.after == 64
    assert pair.seconds_short.first < pair.seconds_full.first
