"""What one call encoded serves the next about the same media: within the block, on this model, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import pytest
import torch

from tests.checks import check_same
from tests.families import FAMILIES
from tests.grid import UNEVEN, steps, stock
from tests.grid import generate as generated_by
from vtc.adapters import Media
from vtc.core.tokens import Layout
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.inference.asking import prompt
from vtc.inference.loading import load
from vtc.reduction.api import reduced
from vtc.reduction.feature_cache import FeatureCache, digest

ASKED = ("which shapes are there?", "what does the plate say?", "where is it?")
ONE, OTHER = (Scene(HELD_OUT + i).image for i in range(2))
CASES = [
    *(("tiny-llava", recipe) for recipe in ("kcenter", "cls", "resize", "tome", "layerwise")),
    *(("tiny-qwen", recipe) for recipe in ("kcenter-mean", "fastv")),
    *(("tiny-internvl", recipe) for recipe in ("cls", "kcenter+layerwise")),
]


@cache
def player(name):
    return load(name, device="cpu", dtype="float32")


@contextmanager
def counted(model) -> Iterator[list[int]]:
    """The calls of the model's encoder within the block."""
    tower = next(part for name, part in model.named_modules() if name.endswith(("vision_tower", "visual")))
    calls: list[int] = []
    hook = tower.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        hook.remove()


def generated(name, question, image):
    """The scores of each generated token, `[T, V]`."""
    model, processor = player(name)
    given = prompt(model, processor, image, question)
    out = model.generate(
        **given, max_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_scores=True, use_cache=True
    )
    return torch.cat(out.scores)


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_one_image_is_encoded_once_and_answers_are_the_same(name, recipe):
    model, found = player(name)[0], []
    for block in (nullcontext, lambda: model.vtc.encode_once()):
        with reduced(model, recipe), counted(model) as calls, block():
            found.append(([generated(name, question, ONE) for question in ASKED], len(calls)))
    (apart, often), (together, once) = found
    assert all(map(torch.equal, apart, together))
    assert (often, once) == (3, 1)


def test_another_image_is_encoded_and_answered_as_itself():
    model = player("tiny-llava")[0]
    images = [ONE, OTHER, OTHER, ONE]
    with reduced(model, "kcenter"):
        alone = [generated("tiny-llava", ASKED[0], image) for image in images]
        with counted(model) as calls, model.vtc.encode_once():
            assert all(map(torch.equal, alone, (generated("tiny-llava", ASKED[0], image) for image in images)))
    assert len(calls) == 3  # of one call before alone, so that what is held stays small
    assert not torch.equal(alone[0], alone[1])


def test_what_is_written_over_the_pixels_is_another_image():
    model, processor = player("tiny-llava")
    given, other = (dict(prompt(model, processor, image, ASKED[0])) for image in (ONE, OTHER))
    with torch.no_grad(), reduced(model, "kcenter"):
        want = model(**other).logits
        with model.vtc.encode_once():
            model(**given)
            given["pixel_values"].copy_(other["pixel_values"])
            assert torch.equal(model(**given).logits, want)


def test_another_precision_is_another_encoding():
    model, processor = player("tiny-llava")
    given = prompt(model, processor, ONE, ASKED[0])
    with torch.no_grad(), reduced(model, "kcenter"):
        want = model(**given).logits
        with model.vtc.encode_once():
            with torch.autocast("cpu", torch.bfloat16):
                model(**given)
            assert torch.equal(model(**given).logits, want)


def test_a_cache_serves_several_blocks_and_none_between_them():
    model = player("tiny-llava")[0]
    with reduced(model, "kcenter"), counted(model) as calls:
        held = model.vtc.feature_cache()
        for often in (1, 1):
            with model.vtc.encode_once(held):
                generated("tiny-llava", ASKED[0], ONE)
            assert len(calls) == often
        generated("tiny-llava", ASKED[0], ONE)
    assert len(calls) == 2


def test_nothing_is_held_behind_the_block_nor_for_another_recipe():
    model = player("tiny-llava")[0]
    with counted(model) as calls, reduced(model, "kcenter"):
        with model.vtc.encode_once():
            generated("tiny-llava", ASKED[0], ONE)
            with reduced(model, "cls"):
                generated("tiny-llava", ASKED[0], ONE)
            assert len(calls) == 2
        generated("tiny-llava", ASKED[0], ONE)
    assert len(calls) == 3


def test_a_batch_holds_each_of_its_images():
    model, processor = player("tiny-llava")
    content = [{"type": "image"}, {"type": "text", "text": ASKED[0]}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    def logits(*images):
        return model(**processor(text=[text] * len(images), images=list(images), return_tensors="pt")).logits[:, -1]

    with torch.no_grad(), reduced(model, "kcenter"):
        want = logits(ONE, OTHER), logits(OTHER, OTHER)
        with counted(model) as calls, model.vtc.encode_once():
            first, second = logits(ONE, OTHER), logits(OTHER, OTHER)
            assert len(calls) == 1  # by content: the place in the batch does not matter
    assert torch.equal(first, want[0])
    assert torch.allclose(second, want[1], atol=1e-5)


def test_where_gradients_are_recorded_all_is_encoded():
    model, processor = player("tiny-llava")
    given = prompt(model, processor, ONE, ASKED[0])
    with reduced(model, "kcenter"), counted(model) as calls, model.vtc.encode_once():
        for _ in range(2):  # a shared graph could not be gone through twice
            model(**given).logits.sum().backward()
    model.zero_grad()
    assert len(calls) == 2


def test_what_no_recent_call_came_with_is_dropped():
    model = player("tiny-llava")[0]
    third = Scene(HELD_OUT + 2).image
    with reduced(model, "kcenter"), counted(model) as calls:
        features = model.vtc.feature_cache(calls=2)
        with model.vtc.encode_once(features):
            for image, often in ((ONE, 1), (OTHER, 2), (ONE, 2), (OTHER, 2), (third, 3), (OTHER, 3), (ONE, 4)):
                generated("tiny-llava", ASKED[0], image)
                assert len(calls) == often
    assert (features.encoded, features.reused) == (4, 3)
    with pytest.raises(ValueError, match="calls=0"):
        FeatureCache(0)


def test_a_cache_outlives_the_wrapping_and_tells_recipes_apart():
    model = player("tiny-llava")[0]
    features = FeatureCache(calls=8)
    with counted(model) as calls:
        for keep, often in ((0.25, 1), (0.25, 1), (0.5, 2), (0.25, 2)):
            with reduced(model, "kcenter", keep=keep), model.vtc.encode_once(features):
                generated("tiny-llava", ASKED[0], ONE)
            assert len(calls) == often


def test_a_digest_tells_what_the_encoder_is_given_apart():
    ones, layout = torch.ones(2, 3), Layout.of_grid(1, 2)

    def of(pixels, layout=layout, modality="image", name="pixel_values"):
        return digest(Media(modality, layout, {name: pixels}))

    others = [
        of(ones.T),
        of(ones * 2),
        of(ones.bfloat16()),
        of(ones.view(torch.int32)),
        of(ones[:, :0]),
        of(ones, Layout.of_grid(2, 1)),
        of(ones, modality="video"),
        of(ones, name="pixels"),
        digest(Media("image", layout, {"pixel_values": ones, "image_sizes": ones})),
    ]
    assert len({of(ones), *others}) == 1 + len(others)
    assert of(ones) == of(torch.ones(3, 2).T)


# A stock model


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_stock_model_answers_from_the_cache_as_from_pixels(family):
    """Bit for bit, also where another adapter than that which encoded packs the features."""
    model, inputs = stock(family), family.inputs(UNEVEN)
    want, features = generated_by(model, inputs, tokens=3), FeatureCache()
    for _ in range(2):
        given = features.encoded_inputs(model, inputs)
        assert not any(name.startswith("pixel_values") for name in given)
        got = generated_by(model, given, tokens=3)
        check_same(got.sequences, want.sequences, "tokens")
        check_same(steps(got), steps(want), "logits")
    assert features.encoded == features.reused > 0


def test_a_prompt_of_text_alone_stays_as_it_is():
    features, given = FeatureCache(), {"input_ids": torch.tensor([[1, 5]])}
    assert features.encoded_inputs(player("tiny-llava")[0], given) == given
