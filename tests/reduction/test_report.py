"""The report's arithmetic against what is really computed and cached."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from tests.families import FAMILIES
from tests.grid import generate
from tests.names import CACHE
from tests.reduction.test_generate import ROWS, answer, each_family
from vtc import Recipe, reduce_tokens, restore
from vtc.adapters import find
from vtc.inference.loading import load
from vtc.inference.prompting import inputs
from vtc.reduction.cache_metadata import full_mask
from vtc.stages import Even, KCenter


@each_family
@pytest.mark.parametrize("tokens", [7, 40])
def test_prefill_flops_equal_a_measured_count(family, tokens):
    model = family.build("eager")
    model.set_experts_implementation("eager")  # the counter does not know grouped products
    embeds = model.get_input_embeddings()(torch.arange(3, 3 + tokens))[None]  # of real ids: Gemma 4 looks for them
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.get_decoder()(inputs_embeds=embeds)
    counts = counter.get_flop_counts()
    # The rotary angles are the only product outside of the layers.
    layers = sum(sum(ops.values()) for name, ops in counts.items() if name.count(".layers.") and name.count(".") == 2)
    predicted = find(model).cost().prefill_flops(tokens)
    # Of linear attention only its linear maps are counted.
    assert layers > predicted if family.layers == "linear" else layers == predicted


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.layers == "full"], ids=lambda f: f.name)
@torch.no_grad()
def test_flops_of_a_later_turn_equal_a_measured_count(family):
    decoder = family.build("eager").get_decoder()
    embeds = torch.randn(1, 19, decoder.config.get_text_config().hidden_size)
    cache = decoder(inputs_embeds=embeds[:, :12], use_cache=True)[CACHE]
    counter = FlopCounterMode(display=False)
    with counter:
        decoder(inputs_embeds=embeds[:, 12:], **{CACHE: cache})
    counts = counter.get_flop_counts()
    layers = sum(sum(ops.values()) for name, ops in counts.items() if name.count(".layers.") and name.count(".") == 2)
    cost = find(family.build()).cost()
    assert cost.turn_flops(7, 12) == layers > cost.turn_flops(7, 0)


@each_family
def test_a_later_turn_reports_the_flops_of_what_it_reads(family):
    model = reduce_tokens(family.build(), "stride", keep=0.25)
    inputs = family.inputs(ROWS)
    first = answer(model, inputs, return_dict_in_generate=True)
    full, short = (torch.tensor(found) for found in (model.vtc.report.prompt_before, model.vtc.report.prompt_after))
    cost, grown = find(model).cost(), first.sequences.shape[1] - inputs["input_ids"].shape[1]
    ids = torch.cat([first.sequences, torch.full((2, 4), 5)], dim=1)
    mask = full_mask(inputs["attention_mask"], ids.shape[1])
    answer(model, {"input_ids": ids, "attention_mask": mask, CACHE: first[CACHE]})
    report = model.vtc.report
    # The last generated token is in no cache yet.
    past = [(counts + grown - 1).tolist() for counts in (full, short)]
    assert report.prefill_flops_before == sum(cost.turn_flops(5, n) for n in past[0])
    assert report.prefill_flops_after == sum(cost.turn_flops(5, n) for n in past[1]) < report.prefill_flops_before
    assert report.prompt_before == tuple(n + 5 for n in past[0])


@each_family
def test_kv_bytes_saved_are_those_not_in_the_cache(family):
    model = family.build()
    inputs = family.inputs(ROWS[1:])

    def held() -> int:
        cache = answer(model, inputs, return_dict_in_generate=True)[CACHE]
        keyed = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
        return sum(t.nbytes for layer in keyed for t in (layer.keys, layer.values))

    full = held()
    reduce_tokens(model, keep=0.25)
    assert full - held() == model.vtc.report.kv_bytes_saved > 0


@each_family
def test_the_report_reads_well_and_times_its_phases(family):
    model = reduce_tokens(family.build(), "kcenter-mean", keep=0.25)
    answer(model, family.inputs(ROWS))
    report = model.vtc.report
    assert list(report.seconds) == ["select", "encode", "merge", "splice"]
    assert all(seconds > 0 for seconds in report.seconds.values())
    assert str(report).startswith(f"kcenter-mean: {report.after} of {report.before} visual tokens")
    assert f"{report.items[-1].modality} {len(report.items) - 1} (row 1)" in str(report)
    assert 0 < report.prefill_flops_after < report.prefill_flops_before


@each_family
def test_a_mask_is_inferred_from_padding_as_stock_does(family):
    model = reduce_tokens(family.build(), keep=0.25)
    inputs = dict(family.inputs(ROWS))
    expected = answer(model, inputs, eos_token_id=5)
    del inputs["attention_mask"]
    assert torch.equal(answer(model, inputs, eos_token_id=5), expected)


def test_windows_are_told_where_the_full_prompt_is_longer():
    gemma3, llava = (next(f for f in FAMILIES if f.name == name) for name in ("gemma3", "llava"))
    model, inputs = reduce_tokens(gemma3.build(), keep=0.25), gemma3.inputs([[3, (1,), 5]])
    model(**inputs)
    assert model.vtc.report.window == 8
    assert "some layers see 8 tokens back" in str(model.vtc.report)
    other = reduce_tokens(llava.build(), keep=0.25)
    other(**llava.inputs([[3, (1,), 5]]))
    assert other.vtc.report.window is None
    assert "tokens back" not in str(other.vtc.report)
    reduce_tokens(model, keep=1.0)(**inputs)
    assert model.vtc.report.window is None  # the stock model's own


def test_a_floor_that_gives_way_in_a_small_item_is_reported_and_costs_its_batch_nothing():
    model, processor = load("tiny-internvl")
    small, large = (Image.new("RGB", size, "red") for size in ((96, 96), (288, 96)))
    given = inputs(model, processor, ["what?"], [large])
    reduce_tokens(model, Recipe((Even(floor=3), KCenter()), keep=20))
    generate(model, given, tokens=1)
    assert model.vtc.report.items[0].below_floor == ()
    assert "gave way" not in str(model.vtc.report)
    reduce_tokens(model, Recipe((Even(floor=8), KCenter()), keep=20))
    generate(model, inputs(model, processor, ["what?", "what?"], [large, small]), tokens=1)
    report = model.vtc.report
    restore(model)
    wide, square = report.items
    counts = [unit.after for unit in wide.units]
    assert len(counts) > 2
    assert (sum(counts), max(counts) - min(counts) <= 1) == (20, True)
    assert wide.below_floor == wide.units
    assert square.below_floor == ()
    assert f"floor=8 gave way in {len(counts)} of {len(counts)} units: 20 tokens do not reach for all" in str(report)
