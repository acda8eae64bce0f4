"""The trace's arithmetic against what is really computed and cached."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.decoder.common import BATCHES, FOUR, recipe, wrapped
from tests.grid import generate
from tests.names import CACHE
from vtc import reduce_tokens

four = pytest.mark.parametrize("family", FOUR, ids=lambda family: family.name)
schedules = pytest.mark.parametrize("schedule", ["layer-0", "once", "pyramid", "withdraw", "adaptive"])


@schedules
@four
@torch.no_grad()
def test_prefill_flops_equal_a_measured_count(family, schedule):
    model = wrapped(family, recipe(schedule), "eager")
    counter = FlopCounterMode(display=False)
    with counter:
        model(**family.inputs(BATCHES["one"]))
    counts = counter.get_flop_counts()
    decoder = next(name for name, module in model.named_modules() if module is model.get_decoder())
    prefix = f"{type(model).__name__}.{decoder}.layers."
    layers = sum(sum(ops.values()) for name, ops in counts.items() if name.startswith(prefix) and _leaf(name, prefix))
    assert model.vtc.report.decoder.prefill_flops == layers > 0


def _leaf(name: str, prefix: str) -> bool:
    return name[len(prefix) :].isdigit()


@schedules
@four
def test_kv_bytes_are_those_in_the_cache(family, schedule):
    model = wrapped(family, recipe(schedule))
    cache = generate(model, family.inputs(BATCHES["one"]), tokens=1)[CACHE]
    held = tuple(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert model.vtc.report.decoder.kv_bytes == held
    assert len(set(held)) > 1 or schedule == "layer-0"


@four
def test_tokens_of_each_layer(family):
    model = wrapped(family, recipe("pyramid"))
    inputs = family.inputs(BATCHES["even"])
    generate(model, inputs, tokens=1, num_beams=2)
    trace = model.vtc.report.decoder
    counts = [item.before for item in model.vtc.report.items]
    first = sum(int(0.75 * n + 0.5) for n in counts)
    second = sum(int(0.4 * n + 0.5) for n in counts)
    structural = sum(item.structural for item in model.vtc.report.items)
    assert trace.layers == (first + structural, second + structural, 0)
    assert trace.mean == pytest.approx(sum(trace.layers) / 3)
    assert sum(trace.mean_by_row) == pytest.approx(trace.mean)
    assert f"{first + structural} from layer 0" in str(model.vtc.report)


@four
def test_a_reduction_before_and_one_inside_are_told_apart(family):
    model = reduce_tokens(family.build(), "kcenter+layerwise", keep=0.5)
    generate(model, family.inputs(BATCHES["one"]), tokens=1)
    report = model.vtc.report
    assert report.decoder.layers[0] == report.after < report.before
    assert report.decoder.layers[-1] < report.after
    assert report.flops_after == report.decoder.prefill_flops
    assert report.bytes_saved == report.kv_bytes_saved + report.decoder.kv_bytes_saved > report.kv_bytes_saved
    assert report.decoder.prefill_flops < report.prefill_flops_after < report.prefill_flops_before
