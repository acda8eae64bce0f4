"""Keyframes that read the question, and features by the model's own tower, from the file to the answer."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
)
from typer.testing import CliRunner

from tests.video.videos import write
from vtc import Recipe, reduce_tokens
from vtc.cli.main import app
from vtc.embedded.video import VALIDATION, Video
from vtc.inference.loading import load
from vtc.recipes.named import recipe
from vtc.recipes.overrides import changed
from vtc.stages import KCenter
from vtc.video import (
    Sampling,
    answer_batch,
    ask,
    prepare,
)
from vtc.video.clips.frame_scores import ClipScorer, ModelScorer, scorer
from vtc.video.stages import ClipBudget

LOSSLESS = {"codec": "libx264rgb", "pixels": "rgb24", "options": {"qp": "0"}}
VIDEO = next(
    video for video in map(Video, range(VALIDATION, VALIDATION + 99)) if video.kind == "needle" and video.frames == 16
)
NEAR = Sampling(isolated=False)
ASKING = changed(recipe("video"), keyframes="aks")


@cache
def loaded(name: str = "tiny-qwen"):
    return load(name)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "video.mp4", VIDEO.pixels(96), fps=2, **LOSSLESS)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Sixteen unlike frames, each shown twice."""
    pixels = np.stack([Video(seed).pixels(96)[0] for seed in range(VALIDATION, VALIDATION + 16)]).repeat(2, axis=0)
    return write(tmp_path_factory.mktemp("video") / "many.mp4", pixels, fps=2, **LOSSLESS)


@pytest.mark.parametrize("features", ["color-layout", "tower"])
@pytest.mark.parametrize("keyframes", ["maxmin", "segments:segmenter=content", "aks", "mmr", "kffocus"])
def test_every_choice_goes_from_the_file_to_an_answer(path, keyframes, features):
    model, processor = loaded()
    made = changed(recipe("video"), keyframes=keyframes, features=features)
    said = ask(model, processor, path, "what flashes?", made, sampling=NEAR)
    assert len(said.prepared.chosen) == 6
    assert said.report.after == 72
    assert not hasattr(model, "vtc")


def test_the_tower_chooses_by_itself_and_not_by_color(many):
    model, processor = loaded()
    chosen = {}
    for features in ("color-layout", "tower"):
        made = changed(recipe("keyframes"), features=features)
        chosen[features] = prepare(many, processor, "what?", made, sampling=NEAR, model=model, keep=0.3).chosen.tolist()
    assert chosen["color-layout"] != chosen["tower"]
    with pytest.raises(ValueError, match=r"features='tower' .*pass the model.*'color-layout'"):
        prepare(many, processor, "what?", changed(recipe("keyframes"), features="tower"), sampling=NEAR)


@pytest.mark.parametrize("keyframes", ["aks", "mmr"])
def test_the_question_changes_the_choice_and_a_callers_scores_come_first(many, keyframes):
    model, processor = loaded()
    made = changed(recipe("keyframes"), keyframes=keyframes)

    def chosen(question: str, **more) -> list[int]:
        return prepare(many, processor, question, made, keep=0.2, sampling=NEAR, model=model, **more).chosen.tolist()

    questions = ("what flashes?", "what color is the circle?", "how many stars are there?", "what moves to the left?")
    assert len({tuple(chosen(question)) for question in questions}) > 1
    last = Video(VALIDATION + 15).pixels(96)[0]
    found = chosen("what?", scores=lambda frame, question: float(np.array_equal(frame, last)))
    assert found[-1] == 15
    with pytest.raises(ValueError, match=r"scorer='model' .*pass the model"):
        prepare(many, processor, "what?", made, sampling=NEAR)


@pytest.mark.parametrize("name", ["tiny-llava", "tiny-internvl", "tiny-qwen"])
def test_the_models_own_scores_are_the_largest_cosine_of_token_and_word(name):
    model, processor = loaded(name)
    frames = VIDEO.pixels(112 if name == "tiny-llava" else 96)[:3]
    judge = ModelScorer(model, processor)
    found = judge.score(frames, "what flashes?")
    assert len(found) == 3
    assert all(-1 <= one <= 1 for one in found)
    assert found == pytest.approx([judge.score(frame[None], "what flashes?")[0] for frame in frames], abs=1e-4)
    tokens, words = judge._tokens(frames[:1])[0], judge._words("what flashes?")
    centred = tokens - tokens.mean(dim=0)
    slow = max(float(torch.cosine_similarity(t, w, dim=0)) for t in centred for w in words)
    assert found[0] == pytest.approx(slow, abs=1e-4)


def clip(folder: Path) -> Path:
    sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    text = CLIPTextConfig(vocab_size=600, bos_token_id=1, eos_token_id=2, pad_token_id=0, **sizes)
    vision = CLIPVisionConfig(image_size=32, patch_size=16, **sizes)
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).eval()
    model.save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=loaded()[1].tokenizer.backend_tokenizer, pad_token="<pad>", model_max_length=12
    )
    size = {"height": 32, "width": 32}
    images = CLIPImageProcessor(size=size, crop_size=size)
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_a_model_of_one_space_scores_by_its_own_features(tmp_path, path):
    folder = clip(tmp_path / "clip")
    judge = scorer(f"clip:{folder}")
    assert isinstance(judge, ClipScorer)
    frames = VIDEO.pixels(96)[:10]
    found = judge.score(frames, "what flashes?")
    pixels = judge._processor.image_processor(images=list(frames), return_tensors="pt")
    text = judge._processor.tokenizer("what flashes?", padding="max_length", return_tensors="pt")
    with torch.no_grad():
        out = judge._model(**pixels, **text)
    slow = (out.logits_per_image[:, 0] / judge._model.logit_scale.exp()).tolist()
    assert found == pytest.approx(slow, abs=1e-5)
    made = changed(recipe("video"), keyframes="mmr", scorer=f"clip:{folder}")
    said = ask(*loaded(), path, "what flashes?", made, sampling=NEAR)
    assert len(said.prepared.chosen) == 6
    with pytest.raises(ValueError, match=f"scorer='clip:{tmp_path}/none': no such folder"):
        scorer(f"clip:{tmp_path}/none")


@pytest.mark.parametrize("made", [ASKING, changed(recipe("keyframes"), features="tower")], ids=["aks", "tower"])
def test_a_wrapped_model_refuses_at_once_what_needs_the_file(made):
    model, _ = load("tiny-qwen")
    with pytest.raises(ValueError, match=r"'input/keyframes' with (strategy='aks'|features='tower') .*vtc\.video\.ask"):
        reduce_tokens(model, made)
    assert not hasattr(model, "vtc")


def test_clips_by_the_tower_are_cut_in_a_wrapped_model(path):
    model, processor = loaded()
    made = Recipe((ClipBudget(segmenter="even:parts=2", features="tower"), KCenter()), keep=0.25)
    said = ask(model, processor, path, "what flashes?", made, sampling=NEAR)
    assert said.report.after == 72


def command(*args: object):
    result = CliRunner().invoke(app, [*map(str, args)], env={"COLUMNS": "300"})
    result.plain = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", result.output + result.stderr).split())
    return result


def test_the_command_line_states_them(path, tmp_path):
    asked = command("ask", path, "what flashes?", "--keyframes", "mmr:relevance=0.7", "--features", "tower")
    assert asked.exit_code == 0, asked.plain
    assert "1 calls of the model" in asked.plain
    cut = command("ask", path, "what flashes?", "--segmenter", "even:parts=3", "--recipe", "clip-budget")
    assert cut.exit_code == 0, cut.plain
    shown = command("show", path, "--out", tmp_path / "t.png", "--segmenter", "content:threshold=40")
    assert shown.exit_code == 0, shown.plain
    for wrong, message in (
        (("--segmenter", "even:part=3"), "has no parameter 'part'"),
        (("--keyframes", "aks", "--recipe", "clip-budget"), "has no stage that leaves frames out"),
        (("--scorer", "model"), "asks none"),
    ):
        refused = command("ask", path, "what?", *wrong)
        assert refused.exit_code == 1, wrong
        assert message in refused.plain
    refused = command("show", path, "--out", tmp_path / "t.png", "--keyframes", "aks")
    assert "chooses frames before the encoder" in refused.plain


def test_a_batch_chooses_frames_for_each_question(path, tmp_path):
    asked = [{"id": i, "video": str(path), "question": one.question} for i, one in enumerate(VIDEO.questions[:4])]
    asked.append({"id": "image", "image": str(tmp_path / "p.png"), "question": "what is it?"})
    from PIL import Image

    Image.fromarray(VIDEO.pixels(96)[0]).save(tmp_path / "p.png")
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({**row, "id": str(row["id"])}) + "\n" for row in asked))
    said = command(
        "batch", tmp_path / "q.jsonl", "--out", tmp_path / "a.jsonl", "--keyframes", "aks", "--segmenter", "even"
    )
    assert said.exit_code == 0, said.plain
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())}
    assert len(rows) == 5
    made = changed(recipe("video"), keyframes="aks", segmenter="even")
    model, processor = loaded()
    for i, one in enumerate(VIDEO.questions[:4]):
        alone = ask(model, processor, path, one.question, made, sampling=NEAR)
        assert rows[str(i)]["answer"] == alone.text
        assert rows[str(i)]["frames"] == pytest.approx(alone.prepared.frames.seconds.tolist())
    assert rows["image"]["error"] is None
    summary = answer_batch(
        tmp_path / "q.jsonl", tmp_path / "b.jsonl", recipe=changed(recipe("video"), features="tower")
    )
    assert summary.exit_code == 0


@pytest.mark.parametrize("name", ["tdc", "kffocus"])
def test_densities_are_by_the_tower_too(path, name):
    made = changed(recipe(name), features="tower")
    assert Recipe.from_dict(made.to_dict()) == made
    assert [stage.features for stage in made.stages if hasattr(stage, "features")]
    assert ask(*loaded(), path, "what flashes?", made, sampling=NEAR).report.after == 72
