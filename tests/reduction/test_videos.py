"""Videos beside images: mixed prompts, frames as units, DeepStack planes and timestamps, token by token."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor, Qwen3VLProcessor
from transformers import Qwen3VLVideoProcessor as Qwen3Videos
from transformers.video_utils import VideoMetadata

from tests import oracle
from tests.adapters.test_processors import qwen_tokenizer, stripes
from tests.checks import (
    check_close,
    check_compact,
    check_decoding,
    check_forward,
    check_given,
    check_same,
)
from tests.encoders import ENCODERS
from tests.families import (
    FAMILIES,
    Family,
    placeholders,
    qwen_inputs,
    visual,
)
from tests.families.qwen import QWEN3_MOE
from tests.grid import (
    fresh,
    generate,
    steps,
    stock,
    watching,
)
from vtc import Recipe, reduce_tokens
from vtc.recipes.composition import POSITIONS
from vtc.stages import (
    KCenter,
    Mean,
    Random,
    Resize,
    Stride,
)

PROMPTS = {"qwen2vl": {}, "qwen25vl": {"seconds": True}}
PROMPTS |= {name: {"timestamps": True} for name in ("qwen3vl", "qwen3vl-moe", "qwen35", "qwen35-moe")}
TIMED = ("qwen3vl", "qwen35")
"""Whose processor writes the timestamps."""
KINDS = tuple(
    Family(f.name, f.build, partial(qwen_inputs, **PROMPTS[f.name]), resizes=True, axes=3)
    for f in (*FAMILIES, QWEN3_MOE)
    if f.name in PROMPTS
)
every_kind = pytest.mark.parametrize("family", KINDS, ids=lambda family: family.name)
# (seed, height, width) is an image, (seed, frames, height, width) a video.
MIXED = [[3, (1, 8, 4), 4, (2, 2, 4, 8), 5], [2, (3, 3, 4, 4), 2, (5, 4, 6), 2, (6, 1, 4, 4), 3], [9]]
VIDEO = [[3, (2, 3, 4, 8), 5]]
RECIPES = (
    Recipe((KCenter(),), keep=0.3, name="kcenter"),
    Recipe((Stride(), Mean()), keep=0.4, name="stride-mean"),
    Recipe((Random(),), keep=4, name="random-4"),
    Recipe((Resize(),), keep=0.5, name="resize"),
)


@every_kind
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("positions", POSITIONS)
def test_images_and_videos_in_one_prompt_are_as_the_oracle_has_them(family, recipe, positions):
    recipe = Recipe(recipe.stages, recipe.keep, positions, name=recipe.name)
    inputs, model = family.inputs(MIXED), fresh(family)
    plans = oracle.plans(stock(family), family, inputs, recipe)
    reduce_tokens(model, recipe)
    with watching(model) as calls:
        out = generate(model, inputs, tokens=3)
    check_given(calls[0], plans)
    check_decoding(stock(family), plans, out.sequences, steps(out))
    if positions == "compact":
        check_compact(calls[0])
    with torch.no_grad():
        check_forward(stock(family), plans, model(**inputs).logits)
    report = model.vtc.report
    assert [(item.modality, item.row) for item in report.items] == [
        *[("image", 0), ("image", 1)],
        *[("video", 0), ("video", 1), ("video", 1)],
    ]
    assert [item.after for item in report.items] == model.vtc.count(**inputs)


@every_kind
def test_a_batch_of_videos_equals_its_singles(family):
    model = reduce_tokens(fresh(family), Recipe((KCenter(), Mean()), keep=0.3))
    together = generate(model, family.inputs(MIXED))
    for r, row in enumerate(MIXED):
        alone = generate(model, family.inputs([row]))
        check_close(steps(together)[r], steps(alone)[0], f"row {r}: logits")


@every_kind
def test_frames_are_units_that_share_the_budget(family):
    model = reduce_tokens(fresh(family), Recipe((KCenter(),), keep=7))
    generate(model, family.inputs(VIDEO), tokens=1)
    (item,) = model.vtc.report.items
    assert [unit.kind for unit in item.units] == ["frame"] * 3
    assert {unit.grid for unit in item.units} == {(1, 2, 4)}
    assert [unit.after for unit in item.units] == [3, 2, 2]


@every_kind
@pytest.mark.parametrize("positions", POSITIONS)
def test_a_frame_that_keeps_nothing_leaves_its_timestamp(family, positions):
    inputs = family.inputs(VIDEO)
    model = reduce_tokens(fresh(family), Recipe((KCenter(),), keep=1, positions=positions))
    with watching(model) as calls:
        generate(model, inputs, tokens=1)
    (item,) = model.vtc.report.items
    assert [unit.after for unit in item.units] == [1, 0, 0]
    ids = inputs["input_ids"][0]
    places = torch.nonzero(visual(ids, model)).flatten()
    stays = ~visual(ids, model)
    stays[places[item.reduction.anchor]] = True
    text = ~visual(ids[stays], model)
    (row,) = calls[0]
    assert len(row.embeds) == int(stays.sum())
    check_same(row.embeds[text], model.get_input_embeddings()(ids[stays][text]), "embeddings of text and timestamps")
    if positions == "original":
        full = ENCODERS[family.name].positions(stock(family), ids.tolist(), ENCODERS[family.name].images(inputs))
        check_same(row.positions, full[:, stays], "positions")
    else:
        check_same(row.positions, torch.arange(int(stays.sum())).expand(3, -1), "positions")


@pytest.mark.parametrize("merge", [(), (Mean(),)], ids=["pruned", "merged"])
def test_deepstack_planes_are_those_of_the_kept_tokens(merge):
    family = next(f for f in KINDS if f.name == "qwen3vl")
    inputs, recipe = family.inputs(MIXED), Recipe((KCenter(), *merge), keep=0.3)
    plans = oracle.plans(stock(family), family, inputs, recipe)
    model = reduce_tokens(fresh(family), recipe)
    given = {}
    note = lambda module, args, kwargs: given.update(kwargs)  # noqa: E731
    model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        model(**inputs)
    mask, planes = given["visual_pos_masks"], given["deepstack_visual_embeds"]
    assert len(planes) == 2
    want = [added for planned_cuts in plans for added in planned_cuts.planes if added]
    assert int(mask.sum()) == len(want) == model.vtc.report.after
    for number, plane in enumerate(planes):
        check_close(plane, torch.stack([added[number] for added in want]), f"plane {number}")
    real = given["attention_mask"].bool()
    for r, planned_cuts in enumerate(plans):  # where the visual tokens stand
        assert mask[r][real[r]].tolist() == [bool(added) for added in planned_cuts.planes]


def test_swapped_planes_are_found():
    family = next(f for f in KINDS if f.name == "qwen3vl")
    inputs, recipe = family.inputs(VIDEO), RECIPES[0]
    (planned_cuts,) = oracle.plans(stock(family), family, inputs, recipe)
    model = reduce_tokens(fresh(family), recipe)
    with torch.no_grad():
        logits = model(**inputs).logits
    check_forward(stock(family), [planned_cuts], logits)
    swapped = [added and added[::-1] for added in planned_cuts.planes]
    with pytest.raises(AssertionError):
        check_forward(stock(family), [replace(planned_cuts, planes=swapped)], logits)


@every_kind
def test_a_video_without_its_grid_is_refused(family):
    inputs = family.inputs(VIDEO)
    del inputs["video_grid_thw"]
    with pytest.raises(ValueError, match="video_grid_thw is missing"):
        generate(reduce_tokens(fresh(family), RECIPES[0]), inputs)


@pytest.mark.parametrize("grid", [torch.tensor([3, 4, 8]), [[3, 4, 8]], torch.tensor([[3, 4]])], ids=str)
def test_a_grid_of_another_shape_is_refused(grid):
    inputs = {**KINDS[0].inputs(VIDEO), "video_grid_thw": grid}
    with pytest.raises(ValueError, match=r"video_grid_thw is .*expected a tensor \[items, 3\]"):
        reduce_tokens(fresh(KINDS[0]), RECIPES[0])(**inputs)


def video(frames: int, width: int, height: int) -> np.ndarray:
    """`[frames, H, W, 3]` a shade that wanders."""
    shade = np.asarray(stripes(width, height))
    return np.stack([np.roll(shade, 3 * t, axis=0) for t in range(frames)])


def processor(kind: str):
    size = {"shortest_edge": 8 * 8, "longest_edge": 96 * 96 * 8}
    options = dict(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
    images, tokenizer = Qwen2VLImageProcessor(**options), qwen_tokenizer()
    if kind.startswith(TIMED):
        return Qwen3VLProcessor(images, tokenizer, Qwen3Videos(**options))
    return Qwen2_5_VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(**options))


@every_kind
def test_videos_as_the_real_processors_give_them(family):
    whole = processor(family.name)
    slot, kind = "<|vision_start|><|video_pad|><|vision_end|>", family.name
    slot = "<|video_pad|>" if kind.startswith(TIMED) else slot
    videos = [video(4, 64, 40), video(6, 32, 32)]
    facts = [VideoMetadata(total_num_frames=len(f), fps=2.0, frames_indices=list(range(len(f)))) for f in videos]
    inputs = dict(
        whole(
            videos=videos,
            text=[f"w1 w2 {slot} w3 w4 w5", f"w6 {slot} w7"],
            padding=True,
            return_tensors="pt",
            do_sample_frames=False,
            video_metadata=facts,
        )
    )
    if kind == "qwen2vl":
        inputs.pop("second_per_grid_ts", None)
    plain = generate(fresh(family), inputs)
    model = reduce_tokens(fresh(family), "kcenter", keep=1.0)
    check_same(steps(generate(model, inputs)), steps(plain), "logits")
    reduce_tokens(model, "kcenter", keep=0.25)
    out = generate(model, inputs)
    check_same(out.sequences[:, : inputs["input_ids"].shape[1]], inputs["input_ids"], "prompt")
    report = model.vtc.report
    assert [len(item.units) for item in report.items] == [2, 3]
    assert [item.after for item in report.items] == model.vtc.count(**inputs)
    assert report.before == int(torch.isin(inputs["input_ids"], torch.tensor(placeholders(model))).sum())
