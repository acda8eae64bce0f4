"""The report's arithmetic against what is really computed and cached."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.names import CACHE
from tests.test_generate import ROWS, answer, each_family
from vtc import reduce_tokens
from vtc.adapters import find


@each_family
@pytest.mark.parametrize("tokens", [7, 40])
def test_prefill_flops_equal_a_measured_count(family, tokens):
    model = family.build("eager")
    embeds = torch.randn(1, tokens, model.config.get_text_config().hidden_size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.get_decoder()(inputs_embeds=embeds)
    counts = counter.get_flop_counts()
    # The rotary angles are the only product outside of the layers.
    layers = sum(sum(ops.values()) for name, ops in counts.items() if name.count(".layers.") and name.count(".") == 2)
    predicted = find(model).cost().prefill_flops(tokens)
    # Of linear attention only its linear maps are counted.
    assert layers > predicted if family.layers == "linear" else layers == predicted


@each_family
def test_kv_bytes_saved_are_those_not_in_the_cache(family):
    model = family.build()
    inputs = family.inputs(ROWS[1:])

    def held() -> int:
        cache = answer(model, inputs, return_dict_in_generate=True)[CACHE]
        keyed = [layer for layer in cache.layers if hasattr(layer, "keys")]
        return sum(t.nbytes for layer in keyed for t in (layer.keys, layer.values))

    full = held()
    reduce_tokens(model, keep=0.25)
    assert full - held() == model.vtc.report.kv_bytes_saved > 0


@each_family
def test_the_report_reads_well_and_times_its_phases(family):
    model = reduce_tokens(family.build(), "kcenter-mean", keep=0.25)
    answer(model, family.inputs(ROWS))
    report = model.vtc.report
    assert list(report.seconds) == ["encode", "select", "merge", "splice"]
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
