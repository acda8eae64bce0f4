"""Second turns: what left a layer in the first turn stays away, whatever the next turn brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from tests import oracle
from tests.checks import check_close, check_decoding
from tests.families import IMAGE, VIDEO, placeholders
from tests.grid import generate, steps, stock
from tests.names import CACHE
from tests.reduction.decoder.common import (
    BATCHES,
    ByLot,
    every_schedule,
    four,
    recipe,
    told,
    wrapped,
)
from tests.reduction.test_turns import TYPES, longer, whole
from vtc import Recipe, reduce_tokens
from vtc.stages import FastV, Feather, PyramidDrop
from vtc.stages.decoder import DecoderStage


def first_turn(model: Any, inputs: dict[str, Tensor]) -> Any:
    """Three tokens, none of which a next turn would take for media."""
    return generate(model, inputs, tokens=3, suppress_tokens=placeholders(model))


@pytest.mark.parametrize("batch", ["one", "uneven"])
@every_schedule
@four
def test_generate_goes_on_from_the_cache(family, schedule, batch):
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(BATCHES[batch])
    first = first_turn(model, inputs)
    trace = model.vtc.report.decoder
    ids, mask, grown = longer(family, inputs, first.sequences)
    second = generate(model, {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]}, tokens=3)
    plans = told(model, family, whole(inputs, ids, mask, grown), trace)
    check_decoding(stock(family), plans, second.sequences, steps(second))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@every_schedule
@four
@torch.no_grad()
def test_forward_goes_on_from_the_cache(family, schedule, attention):
    model, inputs = wrapped(family, recipe(schedule, before=0.6), attention), family.inputs(BATCHES["uneven"])
    cache = model(**inputs, use_cache=True)[CACHE]
    trace = model.vtc.report.decoder
    ids, mask, grown = longer(family, inputs, inputs["input_ids"], words=5)
    plans = told(model, family, whole(inputs, ids, mask, grown), trace)
    new = inputs["input_ids"].shape[1]
    parts = [
        model(input_ids=ids[:, a:b], attention_mask=mask[:, :b], **{CACHE: cache}).logits
        for a, b in ((new, new + 3), (new + 3, new + 5))
    ]
    for r, planned_cuts in enumerate(plans):
        check_close(torch.cat(parts, dim=1)[r], oracle.logits(stock(family), planned_cuts)[-grown:], f"row {r}: logits")


@every_schedule
@four
def test_the_second_turn_brings_a_image(family, schedule):
    model, inputs = wrapped(family, recipe(schedule)), family.inputs([[3, (1, 12, 4), 5]])
    first = first_turn(model, inputs)
    traces = [model.vtc.report.decoder]
    new = family.inputs([[2, (4, 8, 6), 3]])
    ids = torch.cat([first.sequences, new["input_ids"][:, 1:]], dim=1)
    media = {k: v for k, v in new.items() if k not in ("input_ids", "attention_mask", *TYPES)}
    both = {k: torch.cat([inputs[k], v]) for k, v in media.items()}
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name in set(TYPES) & set(inputs):
        given[name] = (ids == IMAGE).int() + 2 * (ids == VIDEO).int()
    second = generate(model, {**given, **media, CACHE: first[CACHE]}, tokens=3)
    traces.append(model.vtc.report.decoder)
    plans = told(model, family, {**given, **both}, *traces)
    check_decoding(stock(family), plans, second.sequences, steps(second))


@pytest.mark.parametrize("later", ["layer-0", "withdraw"])
@four
def test_another_recipe_by_the_second_turn(family, later):
    model, inputs = wrapped(family, recipe("pyramid")), family.inputs(BATCHES["uneven"])
    first = first_turn(model, inputs)
    trace = model.vtc.report.decoder
    ids, mask, grown = longer(family, inputs, first.sequences)
    plans = told(model, family, whole(inputs, ids, mask, grown), trace)
    reduce_tokens(model, recipe(later))
    second = generate(model, {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]}, tokens=3)
    check_decoding(stock(family), plans, second.sequences, steps(second))


@four
def test_a_recipe_without_decoder_stages_refuses_the_cache(family):
    model, inputs = wrapped(family, recipe("once")), family.inputs(BATCHES["one"])
    first = first_turn(model, inputs)
    ids, mask, _ = longer(family, inputs, first.sequences)
    reduce_tokens(model, "kcenter")
    cache = first[CACHE]
    with pytest.raises(ValueError, match=r"the cache .*left inside .*decoder stages"):
        generate(model, {"input_ids": ids, "attention_mask": mask, CACHE: cache}, tokens=1)
    with pytest.raises(ValueError, match=r"the cache .*left inside .*decoder stages"):
        model(input_ids=ids[:, -1:], **{CACHE: cache})


def sparing_the_first(stage: type[DecoderStage]) -> type[DecoderStage]:
    """`stage`, which takes nothing from an image that opens the conversation.

    What leaves at a layer is still seen by the others' choice there, and in a later turn it is not.
    """

    def keep(self: Any, tokens: Any, count: int, cut: Any) -> Tensor:
        opens = int(tokens.shown.own[0]) < 8
        return torch.arange(len(tokens)) if opens else stage.keep(self, tokens, count, cut)

    return dataclass(frozen=True)(type(stage.__name__, (stage,), {"keep": keep, "adaptive": True}))


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("stage", [FastV, Feather, PyramidDrop], ids=lambda stage: stage.name)
@four
@torch.no_grad()
def test_what_a_stage_reads_of_a_cache(family, stage, cache):
    options = {"stride": 0} if stage is Feather else {}
    model = wrapped(family, Recipe((ByLot(((0, 0.6),)), sparing_the_first(stage)(((2, 0.25),), **options))))
    inputs, new = family.inputs([[3, (1, 12, 4), 5]]), family.inputs([[2, (4, 8, 6), 3]])
    ids = torch.cat([inputs["input_ids"], new["input_ids"][:, 1:]], dim=1)
    media = {k: v for k, v in new.items() if k not in ("input_ids", "attention_mask", *TYPES)}
    both = {k: torch.cat([inputs[k], v]) for k, v in media.items()}
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name in set(TYPES) & set(inputs):
        given[name] = (ids == IMAGE).int() + 2 * (ids == VIDEO).int()
    want = model(**given, **both).logits
    kept = {layer: found[1].tolist() for layer, found in model.vtc.report.decoder.kept.items()}
    config = model.config.get_text_config()
    held = StaticCache(config=config, max_cache_len=ids.shape[1]) if cache == "static" else DynamicCache(config=config)
    model(**inputs, **{CACHE: held})
    done = inputs["input_ids"].shape[1]
    brought = {k: v if k == "attention_mask" else v[:, done:] for k, v in given.items()}
    second = model(**brought, **media, **{CACHE: held}).logits
    assert {layer: found[0].tolist() for layer, found in model.vtc.report.decoder.kept.items()} == kept
    check_close(second[:, -3:], want[:, -3:], "logits")
