"""Wrong use is refused with an error that names the argument, its value and the remedy, and changes nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from inspect import signature

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tests.checks import check_same, footprint
from tests.families import (
    FAMILIES,
    PAD,
    TEXT,
    VARIANTS,
    placeholders,
    visual,
)
from tests.grid import (
    SEVERAL,
    UNEVEN,
    every_family,
    fresh,
    generate,
    steps,
    stock,
)
from vtc import (
    Recipe,
    adapters,
    reduce_tokens,
    reduced,
    restore,
)
from vtc.stages import Cls, Stride

RECIPE = Recipe((Stride(),), keep=0.3)


def refused(family, inputs, message: str, **options) -> None:
    """`generate` refuses `inputs`; nothing on the model changes, and its next call is right."""
    model, good = reduce_tokens(fresh(family), RECIPE), family.inputs(UNEVEN)
    want, before = generate(model, good, tokens=2), footprint(model)
    with pytest.raises(ValueError, match=message):
        generate(model, inputs, tokens=2, **options)
    assert footprint(model) == before
    check_same(steps(generate(model, good, tokens=2)), steps(want), "logits of the next call")


@pytest.mark.parametrize("model", ["llava-hf/llava-1.5-7b-hf", None, 3, LlamaForCausalLM], ids=str)
def test_what_is_no_model_is_a_type_error(model):
    with pytest.raises(TypeError, match=rf"model={re.escape(repr(model))} is a {type(model).__name__}"):
        reduce_tokens(model)


def test_modules_without_an_adapter_are_named():
    with pytest.raises(ValueError, match=r"model class 'Linear' has no adapter .*LlavaForConditionalGeneration"):
        reduce_tokens(nn.Linear(2, 2))
    text_only = LlamaForCausalLM(LlamaConfig(**TEXT))
    with pytest.raises(ValueError, match="model class 'LlamaForCausalLM' has no adapter"):
        reduce_tokens(text_only)


@every_family
def test_a_model_without_its_head_is_told_to_bring_it(family):
    headless = fresh(family).model
    with pytest.raises(ValueError, match=rf"'{type(headless).__name__}' has no adapter.*language-model head"):
        reduce_tokens(headless)


@pytest.mark.parametrize(
    "name", ["LlavaLlamaForCausalLM", "LlavaMistralForCausalLM", "LlavaQwenForCausalLM", "InternVLChatModel"]
)
def test_original_and_remote_code_checkpoints_are_told_the_converted_kind(name):
    with pytest.raises(ValueError, match=f"{name}.*-hf'"):
        reduce_tokens(type(name, (nn.Module,), {})())
    inherited = type("Mine", (type(name, (nn.Module,), {}),), {})()
    with pytest.raises(ValueError, match=f"{name}.*-hf'"):
        reduce_tokens(inherited)


@every_family
def test_a_misread_checkpoint_is_known_by_its_config(family):
    model = fresh(family)
    model.config.architectures = ["LlavaLlamaForCausalLM"]
    before = footprint(model)
    with pytest.raises(ValueError, match=r"LlavaLlamaForCausalLM.*-hf'"):
        reduce_tokens(model)
    assert footprint(model) == before


@every_family
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"recipe": "kcentre"}, ValueError, "unknown recipe 'kcentre'; did you mean 'kcenter'"),
        ({"recipe": 3}, TypeError, "recipe=3 is a int"),
        ({"recipe": "missing.json"}, FileNotFoundError, "missing.json"),
        ({"keep": 0}, ValueError, "keep=0 "),
        ({"keep": 1.5}, ValueError, "keep=1.5 "),
        ({"keep": True}, TypeError, "keep=True "),
        ({"positions": "packed"}, ValueError, "positions='packed'; expected one of original, compact"),
        ({"seed": 1.5}, TypeError, "seed=1.5 is a float"),
    ],
    ids=str,
)
def test_wrong_arguments_change_nothing(family, options, error, message):
    model = fresh(family)
    bare = footprint(model)
    with pytest.raises(error, match=message):
        reduce_tokens(model, **options)
    assert footprint(model) == bare
    reduce_tokens(model, RECIPE)
    before = footprint(model)
    with pytest.raises(error, match=message):
        reduce_tokens(model, **options)
    assert footprint(model) == before
    assert model.vtc.recipe == RECIPE


def test_an_unknown_cue_changes_nothing():
    family = next(f for f in FAMILIES if not f.has_cls)
    model = reduce_tokens(fresh(family), RECIPE)
    before = footprint(model)
    needy = type("Needy", (Cls,), {"cues": ("cls_attention",)})
    with pytest.raises(ValueError, match=r"cue 'cls_attention'.*received_attention"):
        reduce_tokens(model, Recipe((needy(),)))
    assert footprint(model) == before


@every_family
def test_ids_that_do_not_fit_the_media(family):
    inputs = family.inputs(UNEVEN)
    first = tuple(visual(inputs["input_ids"], stock(family)).nonzero()[0].tolist())
    placeholder = int(inputs["input_ids"][first])
    fewer, more = inputs["input_ids"].clone(), inputs["input_ids"].clone()
    fewer[first] = 5
    more[2, -1] = placeholder
    for ids in (fewer, more):
        refused(family, {**inputs, "input_ids": ids}, rf"placeholders \(id {placeholder}\).*one processor call")


@every_family
def test_an_item_across_two_rows(family):
    inputs = family.inputs([[4, (3, 8, 6), 6]])
    width = inputs["input_ids"].shape[1] // 2
    split = {
        name: value[:, : 2 * width].reshape(2, width) if value.shape == inputs["input_ids"].shape else value
        for name, value in inputs.items()
    }
    refused(family, split, "whole rows only")


@every_family
def test_right_padding_in_generate(family):
    refused(family, family.inputs(UNEVEN, "right"), r"rows \[1, 2\] end in padding.*padding_side = 'left'")


@every_family
def test_chunked_prefill(family):
    refused(family, family.inputs(UNEVEN), "prefill_chunk_size=4", prefill_chunk_size=4)


@every_family
def test_features_that_are_encoded_already(family):
    refused(
        family, family.inputs(UNEVEN), "mm_encoder_outputs=.*pass the pixels", mm_encoder_outputs={"image": object()}
    )


@every_family
@torch.no_grad()
def test_features_in_place_of_images(family):
    """They would pass by the recipe: `forward` refuses them as `generate` does."""
    inputs = family.inputs(SEVERAL)
    ids = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    kind = "video" if "pixel_values_videos" in inputs else "image"
    encode = getattr(stock(family).model, f"get_{kind}_features")
    encoded = {kind: encode(**{name: inputs[name] for name in signature(encode).parameters if name in inputs})}
    stock(family)(**ids, mm_encoder_outputs=encoded)
    refused(family, ids, "mm_encoder_outputs=.*pass the pixels", mm_encoder_outputs=encoded)
    with pytest.raises(ValueError, match=r"mm_encoder_outputs=.*pass the pixels"):
        reduce_tokens(fresh(family), RECIPE)(**ids, mm_encoder_outputs=encoded)


@every_family
def test_embeddings_beside_images(family):
    inputs = family.inputs(SEVERAL)
    embeds = stock(family).get_input_embeddings()(inputs.pop("input_ids"))
    refused(family, {**inputs, "inputs_embeds": embeds}, "not inputs_embeds")
    with pytest.raises(ValueError, match="not inputs_embeds"):
        reduce_tokens(fresh(family), RECIPE)(**inputs, inputs_embeds=embeds)


@every_family
def test_a_mask_of_another_shape(family):
    inputs = family.inputs(UNEVEN)
    rows, length = inputs["input_ids"].shape
    for shape in [(rows, 1, length, length), (rows, length - 1), (rows - 1, length)]:
        with pytest.raises(ValueError, match=r"attention_mask (is|has) .*expected"):
            reduce_tokens(fresh(family), RECIPE)(**{**inputs, "attention_mask": torch.ones(shape)})


@every_family
def test_a_image_that_is_masked_out(family):
    inputs = family.inputs(UNEVEN)
    inputs["attention_mask"][visual(inputs["input_ids"], stock(family))] = 0
    refused(family, inputs, "attention_mask")


@every_family
def test_rank_of_ids(family):
    inputs = family.inputs(SEVERAL)
    refused(family, {**inputs, "input_ids": inputs["input_ids"][0]}, r"input_ids=\(\d+,\)")


def test_pixels_of_another_shape():
    for family in FAMILIES:
        model = reduce_tokens(fresh(family), RECIPE)
        inputs = family.inputs(SEVERAL)
        name = "pixel_values_videos" if "pixel_values_videos" in inputs else "pixel_values"
        short = {**inputs, name: inputs[name][:-1]}
        with pytest.raises(ValueError, match=r"placeholders|pixel_values.* holds"):
            model(**short)


@every_family
def test_a_family_says_what_is_missing(family):
    model = reduce_tokens(fresh(family), RECIPE)
    inputs = family.inputs(SEVERAL)
    grid = next((name for name in inputs if name.endswith("grid_thw")), None)
    if grid:
        del inputs[grid]
        with pytest.raises(ValueError, match=f"{grid} is missing"):
            model(**inputs)
    elif family.name == "llava":
        with pytest.raises(ValueError, match=r"pixel_values is \(3, 42, 42\)"):
            model(**{**inputs, "pixel_values": inputs["pixel_values"][0]})
        with pytest.raises(ValueError, match="vision_feature_layer=-1 "):
            model(**inputs, vision_feature_layer=-1)


@every_family
def test_a_report_before_any_call(family):
    model = reduce_tokens(fresh(family), RECIPE)
    with pytest.raises(LookupError, match=r"no call .*model\.vtc\.report"):
        _ = model.vtc.report


@every_family
def test_the_block_form_undoes_after_an_error(family):
    model = fresh(family)
    generate(model, family.inputs(SEVERAL))
    before = footprint(model)
    with pytest.raises(ValueError, match="end in padding"), reduced(model, RECIPE):
        generate(model, family.inputs(UNEVEN, "right"))
    assert footprint(model) == before
    restore(model)
    assert footprint(model) == before


def test_resizing_a_image_with_structural_tokens():
    family = next(f for f in VARIANTS if f.name == "llava-full")
    model = reduce_tokens(fresh(family), "resize", keep=0.5)
    with pytest.raises(ValueError, match=r"stages=\['input/resize'\].*structural tokens"):
        model(**family.inputs(SEVERAL))


@every_family
def test_padding_ids_are_no_placeholders(family):
    """Padded slots of the shortened prompt are filled with an id that stands for no image."""
    model = fresh(family)
    model.config.get_text_config().pad_token_id = placeholders(model)[-1]
    inputs = family.inputs(UNEVEN)
    want = generate(reduce_tokens(fresh(family), RECIPE), inputs)
    check_same(steps(generate(reduce_tokens(model, replace(RECIPE)), inputs, pad_token_id=PAD)), steps(want), "logits")


@every_family
def test_a_recipe_guided_by_a_thumbnail_needs_one(family):
    model = fresh(family)
    before = footprint(model)
    if family.thumbnails:
        reduce_tokens(model, "globalcom2")
        return
    with pytest.raises(ValueError, match=r"'allocate/thumbnail' .*thumbnail.*For\w+ has none; use 'even'"):
        reduce_tokens(model, "globalcom2")
    assert footprint(model) == before


@every_family
def test_an_input_stage_needs_an_encoder_that_takes_other_sizes(family):
    model = fresh(family)
    before = footprint(model)
    if family.resizes:
        reduce_tokens(model, "resize")
        return
    with pytest.raises(ValueError, match=r"'input/resize' .*'stride'"):
        reduce_tokens(model, "resize")
    assert footprint(model) == before


@every_family
@pytest.mark.parametrize("recipe", ["keyframes", "clip-budget"])
def test_what_is_about_frames_needs_videos(family, recipe):
    model = fresh(family)
    before = footprint(model)
    if adapters.find(model).videos:
        reduce_tokens(model, recipe)
        return
    with pytest.raises(ValueError, match=r"'(input/keyframes|allocate/clips)' is about the frames of a video, and"):
        reduce_tokens(model, recipe)
    assert footprint(model) == before
    reduce_tokens(model, recipe, images_as="frames")


@every_family
def test_an_empty_batch_and_pixels_of_no_image(family):
    inputs = family.inputs(SEVERAL)
    empty = {name: value[:0] for name, value in inputs.items()}
    refused(family, empty, r"input_ids=\(0, \d+\) is an empty batch")
    text = family.inputs([[9]])
    none = {**text, **{name: value for name, value in empty.items() if name not in text}}
    refused(family, none, r"pixel_values(_videos)? is \(0, .*leave it out of a call without media")


@every_family
def test_videos_for_a_family_without_them(family):
    if "video" in adapters.find(stock(family)).placeholders:
        return
    refused(
        family, {**family.inputs(SEVERAL), "pixel_values_videos": torch.zeros(1, 2, 3, 8, 8)}, "pixel_values_videos"
    )


@every_family
def test_token_types_that_are_too_short(family):
    inputs = family.inputs(SEVERAL)
    for name in ("token_type_ids", "mm_token_type_ids"):
        short = torch.zeros(1, inputs["input_ids"].shape[1] - 2, dtype=torch.int64)
        with pytest.raises(ValueError, match=rf"{name} has {short.shape[1]} columns, input_ids {short.shape[1] + 2};"):
            reduce_tokens(fresh(family), RECIPE)(**{**inputs, name: short})
