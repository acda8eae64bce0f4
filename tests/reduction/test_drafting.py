"""Wrapped models as drafts in assisted generation: the target's answer, from fewer steps of the target."""

from __future__ import annotations

import logging

import pytest
import torch

from tests.families import (
    FAMILIES,
    IMAGE,
    VIDEO,
    llava,
    llava_inputs,
)
from tests.reduction.test_generate import ROWS
from vtc import reduce_tokens

STEPS = dict(max_new_tokens=10, do_sample=False, eos_token_id=None, suppress_tokens=[IMAGE, VIDEO])
DRAFTING = [f for f in FAMILIES if f.layers != "linear"]  # a linear state cannot be taken back
each_family = pytest.mark.parametrize("family", DRAFTING, ids=lambda family: family.name)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "transformers")  # which uses what it deprecates when it assists


def counted(model, inputs, **options):
    """The answer, and how often the model ran."""
    runs = []
    hook = model.register_forward_pre_hook(lambda *args, **kwargs: runs.append(1), with_kwargs=True)
    try:
        return model.generate(**inputs, **STEPS, **options), len(runs)
    finally:
        hook.remove()


@each_family
@pytest.mark.parametrize("target", ["stock", "wrapped"])
def test_the_answer_is_the_targets_and_the_draft_sees_its_images(family, target):
    model, inputs = family.build(), family.inputs(ROWS[1:])
    if target == "wrapped":
        reduce_tokens(model, "kcenter", keep=0.5)
    want, alone = counted(model, inputs)
    draft = reduce_tokens(family.build(), "kcenter", keep=0.97)  # the same weights: it guesses well if it sees
    got, steps = counted(model, inputs, assistant_model=draft)
    assert torch.equal(got, want)
    assert steps < alone
    assert draft.vtc.report.recipe == "kcenter"


def test_a_draft_of_another_width_encodes_for_itself_behind_a_wrapped_target():
    model, inputs = llava(), llava_inputs(ROWS[1:])
    draft = reduce_tokens(llava(seed=3), "cls", keep=0.25)  # cues need its own encoder
    with pytest.raises(ValueError, match=r"draft's recipe 'cls' .*cue 'attention'.*'kcenter'"):
        counted(model, inputs, assistant_model=draft)
    reduce_tokens(model, "kcenter", keep=0.5)
    want, _ = counted(model, inputs)
    assert torch.equal(counted(model, inputs, assistant_model=draft)[0], want)


@pytest.mark.parametrize("recipe", ["resize", "tome"])
def test_recipes_that_change_what_is_encoded_are_refused_as_drafts_of_a_stock_target(recipe):
    model, inputs = llava(), llava_inputs(ROWS[1:])
    draft = reduce_tokens(llava(seed=3), recipe, keep=0.25)
    with pytest.raises(ValueError, match=f"the draft's recipe '{recipe}' needs stage"):
        counted(model, inputs, assistant_model=draft)


def test_features_of_another_width_are_refused_by_name():
    model, inputs = llava(), llava_inputs(ROWS[1:])
    draft = reduce_tokens(llava(seed=3), keep=0.25)
    draft.set_input_embeddings(torch.nn.Embedding(100, 32))
    with pytest.raises(ValueError, match=r"64 values, .*draft LlavaForConditionalGeneration takes 32"):
        counted(model, inputs, assistant_model=draft)


def test_decoder_stages_draft_too():
    model, inputs = llava(), llava_inputs(ROWS[1:])
    want, _ = counted(model, inputs)
    draft = reduce_tokens(llava(), "layerwise")
    assert torch.equal(counted(model, inputs, assistant_model=draft)[0], want)


def test_encoder_outputs_of_a_caller_are_still_refused():
    model, inputs = llava(), llava_inputs(ROWS[1:])
    output = model.get_image_features(inputs.pop("pixel_values"), return_dict=True)
    reduce_tokens(model, keep=0.25)
    with pytest.raises(ValueError, match=r"mm_encoder_outputs=.*pass the pixels"):
        model.generate(**inputs, **STEPS, mm_encoder_outputs={"image": output})
