"""The packaged tiny-llava is a stock LLaVA that answers."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import vtc.tiny
from vtc.tiny.evaluate import answer, exact_match, load
from vtc.tiny.samples import samples
from vtc.tiny.world import HELD_OUT, Scene


@pytest.fixture(scope="module")
def loaded():
    return load("tiny-llava")


def test_import_is_light():
    code = "import sys, vtc.tiny; vtc.tiny.path('tiny-llava'); print({'torch', 'transformers'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'tiny-lava'.*'tiny-llava'"):
        vtc.tiny.path("tiny-lava")


def test_missing_weights_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setattr(vtc.tiny, "_ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"vtc\.tiny\.train tiny-llava"):
        vtc.tiny.path("tiny-llava")


def test_size_dtype_and_visual_tokens(loaded):
    processor, model = loaded
    assert sum(p.numel() for p in model.parameters()) <= 3_000_000
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    inputs = processor(images=Scene(HELD_OUT).image, text="<image>", return_tensors="pt")
    visual = int((inputs.input_ids == model.config.image_token_id).sum())
    features = model.model.get_image_features(inputs.pixel_values).pooler_output
    assert visual == len(features[0]) == 144
    assert (vtc.tiny.path("tiny-llava") / "model.safetensors").stat().st_size < 8 * 2**20


def test_wide_pictures_are_not_cropped(loaded):
    processor, _ = loaded
    wide = np.zeros((96, 192, 3), np.uint8)
    wide[:, :12] = 255
    pixels = processor.image_processor(Image.fromarray(wide), return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 96, 96)
    assert pixels[..., :5].min() > 0.9
    assert pixels[..., 8:].max() < -0.9


def test_vocabulary_covers_every_question(loaded):
    tokenizer = loaded[0].tokenizer
    for seed in [*range(100), *range(HELD_OUT, HELD_OUT + 100)]:
        for q in Scene(seed).questions:
            ids = tokenizer(f"{q.question} {q.answer}").input_ids
            assert tokenizer.unk_token_id not in ids, q
            assert tokenizer.decode(tokenizer(q.answer).input_ids, skip_special_tokens=True) == q.answer


def test_answers_unseen_scenes(loaded):
    processor, model = loaded
    right, n = exact_match(model, processor, range(HELD_OUT, HELD_OUT + 40), per_scene=5)["all"]
    assert right / n >= 0.8, f"{right} of {n}"


def test_a_second_turn_is_answered(loaded):
    processor, model = loaded
    good = total = 0
    for seed in range(HELD_OUT, HELD_OUT + 12):
        scene = Scene(seed)
        first, second = scene.questions[:2]
        turns = [("user", first.question), ("assistant", first.answer), ("user", second.question)]
        chat = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
        chat[0]["content"].insert(0, {"type": "image"})
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        inputs = processor(images=scene.image, text=text, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=6)[:, inputs.input_ids.shape[1] :]
        good += processor.batch_decode(out, skip_special_tokens=True)[0] == second.answer
        total += 1
    assert good >= 0.7 * total, f"{good} of {total}"


def test_samples_are_unseen_scenes_with_true_answers(loaded):
    processor, model = loaded
    found = samples()
    assert len({s.file for s in found}) == 4
    truth = {}
    for seed in range(HELD_OUT, HELD_OUT + 60):
        scene = Scene(seed)
        truth.update({(scene.pixels().tobytes(), q.question): q.answer for q in scene.questions})
    images = [Image.open(s.path).convert("RGB") for s in found]
    for sample, image in zip(found, images, strict=True):
        assert truth[np.asarray(image).tobytes(), sample.question] == sample.answer
    given = answer(model, processor, images, [s.question for s in found])
    assert all(re.fullmatch(r"[a-z0-9 ]+", text) for text in given)
