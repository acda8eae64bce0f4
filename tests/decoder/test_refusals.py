"""What decoder stages cannot do is refused before anything is changed, with the reason and a remedy."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.checks import footprint
from tests.decoder.common import BATCHES, ByLot, four, recipe, wrapped
from tests.families import FAMILIES
from tests.grid import fresh, generate, stock
from vtc import Recipe, reduce_tokens
from vtc.stages import KCenter
from vtc.stages.decoder import VTW, FastV, Feather, Layerwise, PyramidDrop, ToDRE

PARTIAL = [family for family in FAMILIES if family.layers != "full"]


@pytest.mark.parametrize("family", PARTIAL, ids=lambda family: family.name)
def test_layers_that_do_not_see_every_token(family):
    model = fresh(family)
    before = footprint(model)
    with pytest.raises(
        ValueError, match="do not see every token: decoder stages would not be exact; use stages before"
    ):
        reduce_tokens(model, "layerwise")
    assert footprint(model) == before


@four
def test_flex_attention(family):
    model = copy.deepcopy(stock(family))
    model.get_decoder().config._attn_implementation_internal = "flex_attention"
    with pytest.raises(ValueError, match="'flex_attention' takes masks that cannot be shortened; load the model with"):
        reduce_tokens(model, "layerwise")


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((FastV([(9, 0.5)]),), "names layer 9, and the decoder has layers 0 to 2"),
        ((FastV([(0, 0.5)]),), "cuts at layer 0, and the stage scores by the attention of the layer before"),
        ((FastV([(1, 0.5)]), Layerwise([(1, 0.5)])), "both cut at layer 1"),
        ((Layerwise([(1, 0.2)]), ByLot(((2, 0.5),))), "tokens that left do not come back"),
    ],
    ids=str,
)
def test_schedules_that_do_not_fit_the_model(stages, message):
    model = fresh(FAMILIES[0])
    before = footprint(model)
    with pytest.raises(ValueError, match=message):
        reduce_tokens(model, Recipe(stages))
    assert footprint(model) == before


def test_parameters_out_of_range():
    for make, error, message in (
        (lambda: Feather(stride=-1), ValueError, "stride=-1; expected 1 or more, or 0"),
        (lambda: Feather(stride=1.5), TypeError, "stride=1.5 is a float"),
        (lambda: VTW([(0.5, 0.1)]), ValueError, r"give \[\(layer, 0\)\]"),
        (lambda: ToDRE(threshold=0), ValueError, "threshold=0; expected a share"),
        (lambda: Recipe((FastV(),), keep=0.5), ValueError, "each follows its own schedule"),
        (lambda: Recipe((KCenter(), "fastv")), TypeError, "stages holds 'fastv'"),
    ):
        with pytest.raises(error, match=message):
            make()


@four
def test_chunked_prefill(family):
    model = wrapped(family, recipe("once"))
    with pytest.raises(ValueError, match="prefill_chunk_size=8"):
        generate(model, family.inputs(BATCHES["one"]), prefill_chunk_size=8)


@four
def test_a_cache_that_was_filled_before_wrapping(family):
    model, inputs = fresh(family), family.inputs(BATCHES["one"])
    cache = model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=True).past_key_values
    reduce_tokens(model, Recipe((PyramidDrop(((1, 0.5),)),)))
    before = torch.tensor([[5, 6, 7]])
    given = {**inputs, "attention_mask": torch.ones(1, 3 + inputs["input_ids"].shape[1], dtype=torch.int64)}
    for name in ("input_ids", "mm_token_type_ids"):
        if name in inputs:
            given[name] = torch.cat([before if name == "input_ids" else 0 * before, inputs[name]], dim=1)
    with pytest.raises(
        ValueError, match="past_key_values holds 3 tokens of turns in which this recipe dropped nothing"
    ):
        generate(model, {**given, "past_key_values": cache}, tokens=1)


@four
def test_a_stage_that_breaks_its_contract(family):
    class Wrong(ByLot):
        def keep(self, tokens, count, cut):
            return torch.arange(count + 1)

    model = wrapped(family, Recipe((Wrong(),)))
    with pytest.raises(ValueError, match="a decoder stage must return exactly `count` ascending places"):
        generate(model, family.inputs(BATCHES["one"]))
    out = generate(reduce_tokens(model, recipe("once")), family.inputs(BATCHES["one"]))  # nothing stays behind
    assert out.sequences.shape[0] == 1
