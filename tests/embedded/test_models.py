"""The packaged models are stock classes that answer."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import vtc.embedded
from tools.train_embedded import publish
from tools.train_embedded.evaluate import (
    answer,
    asked,
    asked_videos,
    exact,
    exact_match,
    load,
    main,
)
from tools.train_embedded.model_specs import MODEL_SPECS
from vtc.embedded import NAMES, VIEW_OF
from vtc.embedded.samples import samples
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.embedded.spec import VERSION

every_model = pytest.mark.parametrize("name", NAMES)
UNSEEN = HELD_OUT + 5000
TOKENS = {"tiny-llava": ("<image>", 196), "tiny-internvl": ("<IMG_CONTEXT>", 180), "tiny-qwen": ("<|image_pad|>", 126)}
"""How an image stands in each prompt, and how many visual tokens it has at least."""


@pytest.fixture(scope="module")
def loaded():
    return {name: load(name) for name in NAMES}


def test_import_is_light():
    code = (
        "import sys, vtc.embedded; vtc.embedded.path('tiny-llava'); print({'torch', 'transformers'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'tiny-lava'.*'tiny-llava'"):
        vtc.embedded.path("tiny-lava")


@every_model
def test_missing_weights_say_how_to_get_them(name, monkeypatch, tmp_path):
    monkeypatch.setattr(vtc.embedded, "_ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"train_embedded\.train {name}"):
        vtc.embedded.path(name)


def test_damaged_weights_are_named(monkeypatch, tmp_path):
    shutil.copytree(vtc.embedded.path("tiny-llava").parent, tmp_path / "weights")
    monkeypatch.setattr(vtc.embedded, "_ROOT", tmp_path)
    assert vtc.embedded.path("tiny-llava") == tmp_path / "weights" / "tiny-llava"
    file = tmp_path / "weights" / "tiny-llava" / "model.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[:-100], whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"weights of 'tiny-llava' in {file.parent} .*sha256 .*reinstall"):
            vtc.embedded.path("tiny-llava")


def test_publishing_copies_a_finished_directory_and_writes_its_sum(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(publish, "WEIGHTS", tmp_path / "weights")
    publish.main([str(vtc.embedded.path("tiny-llava"))])
    line = (tmp_path / "weights" / "SHA256SUMS").read_text()
    assert line == f"{vtc.embedded.sums()['tiny-llava']}  tiny-llava/model.safetensors\n"
    for wrong, message in ((tmp_path, "not named like a model"), (tmp_path / "tiny-llava", "holds no model.safetens")):
        with pytest.raises(SystemExit):
            publish.main([str(wrong)])
        assert message in capsys.readouterr().err


@every_model
def test_packaged_files_are_what_the_code_builds(name, loaded):
    """Class, parameters, settings and processor are those of the model spec of that name; the card names the world."""
    processor, model = loaded[name]
    model_spec, directory = MODEL_SPECS[name], vtc.embedded.path(name)
    built = model_spec.build_model()
    assert type(model) is type(built)
    assert type(processor) is type(model_spec.build_processor())
    shapes = {n: p.shape for n, p in model.named_parameters()}
    assert shapes == {n: p.shape for n, p in built.named_parameters()}
    assert processor.tokenizer.get_vocab() == model_spec.build_processor().tokenizer.get_vocab()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sum(f.stat().st_size for f in directory.iterdir()) < 12e6
    assert f"world, version {VERSION}" in (directory / "README.md").read_text()
    assert json.loads((directory / "config.json").read_text())["architectures"] == [type(built).__name__]


@every_model
def test_a_image_has_enough_visual_tokens(name, loaded):
    processor, model = loaded[name]
    slot, least = TOKENS[name]
    inputs = processor(images=Scene(HELD_OUT, VIEW_OF[name]).image, text=slot, return_tensors="pt")
    visual = int((inputs.input_ids == model.config.image_token_id).sum())
    grid = {"image_grid_thw": inputs.image_grid_thw} if "image_grid_thw" in inputs else {}
    features = torch.cat(list(model.model.get_image_features(inputs.pixel_values, **grid).pooler_output))
    assert visual == features.flatten(0, -2).shape[0]
    assert visual >= least


def test_wide_images_are_not_cropped(loaded):
    processor, _ = loaded["tiny-llava"]
    wide = np.zeros((112, 224, 3), np.uint8)
    wide[:, :14] = 255
    pixels = processor.image_processor(Image.fromarray(wide), return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 112, 112)
    assert pixels[..., :5].min() > 0.9
    assert pixels[..., 9:].max() < -0.9


@every_model
def test_vocabulary_covers_every_question(name, loaded):
    tokenizer = loaded[name][0].tokenizer
    for _, q in asked([*range(100), *range(HELD_OUT, HELD_OUT + 100)], name=name):
        ids = tokenizer(f"{q.question} {q.answer}").input_ids
        assert tokenizer.unk_token_id not in ids, q
        assert tokenizer.decode(tokenizer(q.answer).input_ids, skip_special_tokens=True) == q.answer


@pytest.mark.nightly  # goldens of the benchmark say the same at every change
@every_model
def test_answers_unseen_scenes_and_not_without_the_image(name, loaded):
    """The floor below which a model is not shipped, and the ceiling of what questions alone give away."""
    processor, model = loaded[name]
    todo = list(asked(range(UNSEEN, UNSEEN + 50), 5, name))
    right, n = exact_match(model, processor, todo)["all"]
    assert right / n >= 0.8, f"{right} of {n}"
    blind, n = exact_match(model, processor, todo, blind=True)["all"]
    assert blind / n < 0.45, f"{blind} of {n}"


@pytest.mark.nightly  # goldens of the benchmark say the same at every change
def test_answers_unseen_videos_and_not_without_them(loaded):
    processor, model = loaded["tiny-qwen"]
    todo = list(asked_videos(range(UNSEEN, UNSEEN + 40), 4))
    right, n = exact_match(model, processor, todo)["all"]
    assert right / n >= 0.7, f"{right} of {n}"
    blind, n = exact_match(model, processor, todo, blind=True)["all"]
    assert blind / n < 0.45, f"{blind} of {n}"


@every_model
def test_a_second_turn_is_answered(name, loaded):
    processor, model = loaded[name]
    good = total = 0
    for seed in range(UNSEEN, UNSEEN + 16):
        scene = Scene(seed, VIEW_OF[name])
        first, second = scene.questions[:2]
        turns = [("user", first.question), ("assistant", first.answer), ("user", second.question)]
        chat = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
        chat[0]["content"].insert(0, {"type": "image"})
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        inputs = processor(images=scene.image, text=text, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=6)[:, inputs.input_ids.shape[1] :]
        good += exact(processor.batch_decode(out, skip_special_tokens=True)[0], second.answer)
        total += 1
    assert good >= 0.7 * total, f"{good} of {total}"


@every_model
def test_two_images_are_told_apart(name, loaded):
    processor, model = loaded[name]
    good = total = 0
    for seed in range(UNSEEN, UNSEEN + 40):
        scenes = [Scene(seed, VIEW_OF[name]), Scene(seed + 1, VIEW_OF[name])]
        if scenes[0].aspect != scenes[1].aspect:
            continue
        for i, order in enumerate(("first", "second")):
            q = scenes[i].questions[0]
            content = [{"type": "image"}] * 2 + [{"type": "text", "text": f"in the {order} image, {q.question}"}]
            text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            inputs = processor(images=[[s.image for s in scenes]], text=[text], return_tensors="pt")
            out = model.generate(**inputs, max_new_tokens=6)[:, inputs.input_ids.shape[1] :]
            good += exact(processor.batch_decode(out, skip_special_tokens=True)[0], q.answer)
            total += 1
    assert good >= 0.65 * total, f"{good} of {total}"


def test_samples_are_unseen_scenes_with_true_answers(loaded):
    processor, model = loaded["tiny-llava"]
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


MORE = (
    (["--per-scene", "-1"], "--per-scene=-1 must be 1 or more"),
    (["--videos"], "tiny-llava was not trained on videos"),
    (["--keep", "0.1"], "need a --recipe"),
    (["--first", str(2**41)], "is no unseen seed"),
)


def test_evaluate_prints_skills_and_refuses_training_seeds(capsys):
    main(["tiny-llava", "--n", "2", "--per-scene", "2", "--recipe", "stride", "--keep", "0.5"])
    assert re.match(r"all +\d+\.\d%  \d of 4\n", capsys.readouterr().out)
    for wrong, message in ((["--first", "3"], "is no unseen seed"), (["--n", "0"], "must be 1 or more"), *MORE):
        with pytest.raises(SystemExit):
            main(["tiny-llava", *wrong])
        assert message in capsys.readouterr().err
