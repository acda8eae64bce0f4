"""Second turns: going on from a cache of reduced media equals giving the whole conversation at once."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from transformers import DynamicCache

from tests.families import (
    FAMILIES,
    IMAGE,
    VIDEO,
    placeholders,
    text,
)
from tests.names import CACHE
from tests.reduction.test_generate import ROWS, answer, each_family
from vtc import reduce_tokens

TYPES = ("token_type_ids", "mm_token_type_ids")
POSITIONS = pytest.mark.parametrize("positions", ["original", "compact"])


def first_turn(family, rows, recipe="kcenter", positions="original"):
    model = reduce_tokens(family.build(), recipe, keep=0.25, positions=positions)
    inputs = family.inputs(rows)
    model.generation_config.suppress_tokens = placeholders(model)  # which a next turn would take for media
    return model, inputs, answer(model, inputs, return_dict_in_generate=True)


def longer(family, inputs, sequences, words=4):
    """The whole conversation: the first turn, its answer, and a new question."""
    more = torch.tensor([text(words, 7 + i) for i in range(len(sequences))])
    ids = torch.cat([sequences, more], dim=1)
    grown = ids.shape[1] - inputs["input_ids"].shape[1]
    mask = torch.cat([inputs["attention_mask"], inputs["attention_mask"].new_ones(len(ids), grown)], dim=1)
    return ids, mask, grown


def whole(inputs, ids, mask, grown):
    """The conversation as one fresh prompt, media and all."""
    fresh = {**inputs, "input_ids": ids, "attention_mask": mask}
    for name in TYPES:
        if name in inputs:
            kinds = inputs[name]
            fresh[name] = torch.cat([kinds, kinds.new_zeros(len(ids), grown)], dim=1)
    return fresh


@each_family
@POSITIONS
@pytest.mark.parametrize("rows", [ROWS[1:], ROWS], ids=["one", "batch"])
def test_second_turn_equals_one_fresh_prompt(family, positions, rows):
    model, inputs, first = first_turn(family, rows, positions=positions)
    ids, mask, grown = longer(family, inputs, first.sequences)
    expected = answer(model, whole(inputs, ids, mask, grown))
    cache = copy.deepcopy(first[CACHE])
    out = answer(model, {"input_ids": ids, "attention_mask": mask, CACHE: cache})
    assert torch.equal(out, expected)


@each_family
def test_second_turn_without_a_mask_and_with_token_types(family):
    model, inputs, first = first_turn(family, ROWS[1:])
    model.generation_config.pad_token_id = None  # stock `generate` would take an answer's token 0 for padding
    ids, mask, grown = longer(family, inputs, first.sequences)
    fresh = whole(inputs, ids, mask, grown)
    expected = answer(model, fresh)
    given = {"input_ids": ids, CACHE: first[CACHE]}
    if "mm_token_type_ids" in fresh:
        given["mm_token_type_ids"] = fresh["mm_token_type_ids"]
    assert torch.equal(answer(model, given), expected)


@each_family
def test_second_turn_with_only_the_new_tokens(family):
    model, inputs, first = first_turn(family, ROWS[1:])
    ids, mask, grown = longer(family, inputs, first.sequences)
    expected = answer(model, whole(inputs, ids, mask, grown))
    new = ids[:, -5:]  # the last generated token, which no cache holds yet, and the four words of the new question
    out = answer(model, {"input_ids": new, "attention_mask": mask, CACHE: first[CACHE]})
    assert out[:, new.shape[1] :].tolist() == expected[:, ids.shape[1] :].tolist()


@each_family
def test_an_answer_longer_than_the_conversation_before_it(family):
    model, inputs, first = first_turn(family, [[1, (1,), 1]])
    ids, mask, grown = longer(family, inputs, first.sequences)
    many = ids.shape[1] + 10
    expected = answer(model, whole(inputs, ids, mask, grown), max_new_tokens=many)
    given = {"input_ids": ids[:, -5:], "attention_mask": mask, CACHE: first[CACHE]}
    out = answer(model, given, max_new_tokens=many)
    assert out[:, 5:].tolist() == expected[:, ids.shape[1] :].tolist()


@each_family
def test_third_turn(family):
    model, inputs, first = first_turn(family, ROWS[1:])
    ids, mask, _ = longer(family, inputs, first.sequences)
    second = answer(
        model,
        {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]},
        return_dict_in_generate=True,
    )
    ids, mask, grown = longer(family, inputs, second.sequences)
    expected = answer(model, whole(inputs, ids, mask, grown))
    out = answer(model, {"input_ids": ids, "attention_mask": mask, CACHE: second[CACHE]})
    assert torch.equal(out, expected)


@each_family
@POSITIONS
def test_a_new_image_in_the_second_turn(family, positions):
    model, inputs, first = first_turn(family, [[3, (1,), 5]], positions=positions)
    sequence = first.sequences
    new = family.inputs([[2, (4,), 3]])
    ids = torch.cat([sequence, new["input_ids"][:, 1:]], dim=1)
    media = {k: v for k, v in new.items() if k not in ("input_ids", "attention_mask", *TYPES)}
    both = {k: torch.cat([inputs[k], v]) for k, v in media.items()}
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name in set(TYPES) & set(inputs):
        given[name] = (ids == IMAGE).int() + 2 * (ids == VIDEO).int()
    expected = answer(model, {**given, **both})
    out = answer(model, {**given, **media, CACHE: first[CACHE]})
    assert torch.equal(out, expected)
    assert len(model.vtc.report.items) == 1


@each_family
def test_a_cache_survives_pickling_and_another_question(family):
    model, inputs, first = first_turn(family, ROWS[1:], recipe="random")
    stored = pickle.dumps(first[CACHE])
    ids, mask, grown = longer(family, inputs, first.sequences)
    expected = answer(model, whole(inputs, ids, mask, grown))
    # Another recipe by now: the media in the cache keep their first reduction.
    reduce_tokens(model, "stride", keep=0.5)
    given = {"input_ids": ids, "attention_mask": mask, CACHE: pickle.loads(stored)}
    assert torch.equal(answer(model, given), expected)


@each_family
def test_beams_can_be_gone_on_from(family):
    model = reduce_tokens(family.build(), "kcenter", keep=0.25)
    inputs = family.inputs(ROWS)
    first = answer(model, inputs, num_beams=2, num_return_sequences=2, return_dict_in_generate=True)
    assert first[CACHE].vtc.splice.mask.shape[0] == 4


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_cache_filled_by_the_bare_model_is_refused(family):
    model = family.build()
    inputs = family.inputs([[3, (1,), 5]])
    first = answer(model, inputs, return_dict_in_generate=True)
    reduce_tokens(model, keep=0.25)
    with pytest.raises(ValueError, match="the cache holds"):
        answer(model, {**inputs, CACHE: first[CACHE]})


@each_family
def test_a_cache_that_was_emptied_starts_again(family):
    model, inputs, first = first_turn(family, ROWS[1:])
    cache = DynamicCache(config=model.config.get_text_config())
    cache.vtc = first[CACHE].vtc
    assert torch.equal(answer(model, {**inputs, CACHE: cache}), first.sequences)


@each_family
def test_too_few_ids_for_the_cache_are_refused(family):
    model, _, first = first_turn(family, ROWS[1:])
    with pytest.raises(ValueError, match="whole conversation"):
        answer(model, {"input_ids": first.sequences[:, -2:], CACHE: first[CACHE]})
