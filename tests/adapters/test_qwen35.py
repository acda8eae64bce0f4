"""Qwen3.5 beyond the grid: files of videos by every recipe, what its recurrent states refuse, and both classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen3VLProcessor, Qwen3VLVideoProcessor

from tests.adapters.test_processors import qwen_processor, stripes
from tests.check.test_runner import TEMPLATE
from tests.checks import check_close, footprint
from tests.families import PAD
from tests.families.qwen35 import QWEN35, qwen35, qwen35_moe
from tests.names import CACHE
from tests.reduction.test_edges import logits
from tests.reduction.test_turns import first_turn, longer, whole
from tests.reduction.test_videos import video
from tests.video.videos import write
from vtc import Recipe, adapters, named_recipes, reduce_tokens
from vtc.adapters import Qwen35
from vtc.reduction import model_inputs, wrapped_model
from vtc.stages import FastV
from vtc.video import Sampling, ask

NEAR = Sampling(isolated=False)
VIDEOS = [recipe.name for recipe in named_recipes() if recipe.is_video_recipe]
INSIDE = [recipe.name for recipe in named_recipes() if recipe.decoder]
both = pytest.mark.parametrize("build", [qwen35, qwen35_moe])


def timed_processor() -> Qwen3VLProcessor:
    """The processor that Qwen3.5 names: it writes a timestamp in front of each frame."""
    older = qwen_processor()
    size = dict(older.video_processor.size)
    videos = Qwen3VLVideoProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
    whole = Qwen3VLProcessor(older.image_processor, older.tokenizer, videos)
    whole.chat_template = TEMPLATE
    return whole


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "video.mp4", video(16, 64, 48), fps=2)


@both
def test_both_classes_and_those_that_inherit_from_them_have_the_adapter(build):
    model = build()
    assert type(adapters.find(model)) is Qwen35
    model.__class__ = type("Mine", (type(model),), {})
    assert type(adapters.find(model)) is Qwen35


def test_there_are_recipes_to_be_tried():
    assert {"video", "keyframes", "clip-budget", "dycoke"} <= set(VIDEOS)
    assert {"fastv", "pyramiddrop", "layerwise", "kcenter+feather"} <= set(INSIDE)


@pytest.mark.parametrize("name", VIDEOS)
def test_a_file_is_answered_by_every_recipe_of_videos(name, path):
    model = qwen35()
    before = footprint(model)
    answer = ask(model, timed_processor(), path, "w1 w2", name, keep=0.4, sampling=NEAR, max_new_tokens=2)
    assert answer.calls[-1].tokens_kept == answer.report.after < answer.prepared.tokens
    assert footprint(model) == before


@both
@pytest.mark.parametrize("name", INSIDE)
def test_stages_inside_the_language_model_are_refused_with_the_reason(build, name):
    model = build()
    before = footprint(model)
    said = r"stages=\['decoder/.*TextModel has layers of kind \['linear_attention'\], .*recurrent state.*'kcenter'"
    with pytest.raises(ValueError, match=said):
        reduce_tokens(model, name)
    assert footprint(model) == before


def test_every_stage_that_is_refused_is_named():
    recipe = Recipe((FastV([(1, 0.5)]),))
    with pytest.raises(ValueError, match=r"stages=\['decoder/fastv'\]"):
        reduce_tokens(qwen35(), recipe)


@both
def test_frames_are_encoded_apart(build):
    """What `with_frames` rests on: the tokens of a frame do not depend on the others."""
    model, processor = build(), timed_processor()
    inputs = dict(
        processor(videos=[video(8, 64, 40)], text=["w1 <|video_pad|> w2"], return_tensors="pt", do_sample_frames=False)
    )
    adapter = adapters.find(model)
    (item,) = adapter.media(inputs)
    assert item.layout.kinds == ("frame",) * 4
    chosen = torch.tensor([0, 2])
    with torch.no_grad():
        (whole,), (some,) = adapter.encode([item], ()), adapter.encode([adapter.with_frames(item, chosen)], ())
    check_close(some.features, whole.features[torch.isin(item.layout.unit, chosen)], "features")
    with pytest.raises(AssertionError):
        check_close(some.features, whole.features[torch.isin(item.layout.unit, torch.tensor([0, 1]))], "features")


@both
def test_images_as_the_real_processor_gives_them_by_what_the_tower_attends_to(build):
    slot = "<|vision_start|><|image_pad|><|vision_end|>"
    inputs = timed_processor()(
        images=[[stripes(64, 40)], [stripes(32, 96), stripes(16, 16)]],
        text=[f"w1 w2 {slot} w3", f"{slot} w4 w5 {slot} w6 w7 w8"],
        padding=True,
        return_tensors="pt",
    )
    model = reduce_tokens(build(), "cls-mean", keep=0.5)
    model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert [item.row for item in model.vtc.report.items] == [0, 1, 1]
    assert [item.after for item in model.vtc.report.items] == model.vtc.count(**inputs)


def uneven_turn(family):
    """A second turn of two rows, one of which asks by two tokens less: the model, its arguments, the whole prompt."""
    model, inputs, first = first_turn(family, [[3, (1,), 5], [2, (2,), 2]])
    ids, mask, grown = longer(family, inputs, first.sequences)
    ids[1, -4:-2], mask[1, -4:-2] = PAD, 0
    return model, {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]}, whole(inputs, ids, mask, grown)


@pytest.mark.parametrize("family", QWEN35, ids=lambda family: family.name)
def test_rows_that_go_on_by_unlike_numbers_of_tokens_are_refused(family):
    model, given, fresh = uneven_turn(family)
    with pytest.raises(
        ValueError, match=r"rows \[1\] go on from the cache .*recurrent states of Qwen3_5.*one row at a"
    ):
        logits(model, given)
    with pytest.raises(ValueError, match=r"rows \[1\] go on from the cache"):
        model(**{**given, "input_ids": given["input_ids"][:, -5:]})
    assert logits(model, fresh).isfinite().all()


def test_what_is_refused_would_be_wrong(monkeypatch):
    """A control: the state has read the padding, and later tokens of that row show it; the other row is right."""
    model, given, fresh = uneven_turn(QWEN35[0])
    monkeypatch.setattr(wrapped_model, "check_padding", lambda *_: None)
    got, want = logits(model, given), logits(model, fresh)
    check_close(got[0], want[0], "logits of the even row")
    with pytest.raises(AssertionError):
        check_close(got[1], want[1], "logits of the padded row")


def padded_turn(side):
    """A model, a later turn of two rows whose first was padded on a side, and what it gives without the cache."""
    family = QWEN35[0]
    model = reduce_tokens(family.build(), "stride", keep=0.5)
    inputs = family.inputs([[3, (1,), 5], [1, (1,), 3]], side)
    with torch.no_grad():
        first = model(**inputs, use_cache=True)
    new = torch.tensor([[50, 51, 52], [53, 54, 55]])
    ids = torch.cat([inputs["input_ids"], new], dim=1)
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(new)], dim=1)
    given = {"input_ids": new, "attention_mask": mask, CACHE: first[CACHE]}
    types = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(new)], dim=1)
    return model, given, {**inputs, "input_ids": ids, "attention_mask": mask, "mm_token_type_ids": types}


@torch.no_grad()
def test_a_state_that_has_read_padding_on_the_right_goes_no_further(monkeypatch):
    model, given, fresh = padded_turn("left")
    check_close(model(**given).logits, model(**fresh).logits[:, -3:], "logits")
    model, given, fresh = padded_turn("right")
    with pytest.raises(ValueError, match=r"rows \[1\] of the first turn are padded on the right.*pad on the left"):
        model(**given)
    monkeypatch.setattr(model_inputs, "check_ends", lambda *_: None)
    with pytest.raises(AssertionError):  # a control: it would be wrong
        check_close(model(**given).logits, model(**fresh).logits[:, -3:], "logits")
