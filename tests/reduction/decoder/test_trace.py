"""The trace's arithmetic against what is really computed and cached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.families import (
    IMAGE,
    VIDEO,
    Family,
    placeholders,
)
from tests.grid import generate
from tests.names import CACHE
from tests.reduction.decoder.common import (
    BATCHES,
    FOUR,
    recipe,
    wrapped,
)
from tests.reduction.test_turns import TYPES
from vtc import reduce_tokens
from vtc.reduction.cache_metadata import full_mask
from vtc.reduction.decoder.report import Trace

four = pytest.mark.parametrize("family", FOUR, ids=lambda family: family.name)
schedules = pytest.mark.parametrize("schedule", ["layer-0", "once", "pyramid", "withdraw", "adaptive"])


@schedules
@four
@torch.no_grad()
def test_prefill_flops_equal_a_measured_count(family, schedule):
    model = wrapped(family, recipe(schedule), "eager")
    layers = measured(model, lambda: model(**family.inputs(BATCHES["one"])))
    assert model.vtc.report.decoder.prefill_flops == layers > 0


def measured(model: Any, call: Callable[[], Any]) -> int:
    """FLOPs of the decoder layers in a call of `model`."""
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    counts = counter.get_flop_counts()
    decoder = next(name for name, module in model.named_modules() if module is model.get_decoder())
    prefix = f"{type(model).__name__}.{decoder}.layers."
    return sum(sum(ops.values()) for name, ops in counts.items() if name.startswith(prefix) and _leaf(name, prefix))


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


def later(model: Any, family: Family, lines: list[list[Any]], new: list[list[Any]]) -> dict[str, Any]:
    """What brings the images of `new`, lines of one length, to the cache of a first turn over `lines`."""
    inputs, brought = family.inputs(lines), family.inputs(new)
    first = generate(model, inputs, tokens=3, suppress_tokens=placeholders(model))
    ids = torch.cat([first.sequences, brought["input_ids"][:, 1:]], dim=1)
    given = {**brought, "input_ids": ids, CACHE: first[CACHE]}
    given["attention_mask"] = full_mask(inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])), len(ids[0]))
    for name in set(TYPES) & set(inputs):
        given[name] = (ids == IMAGE).int() + 2 * (ids == VIDEO).int()
    return given


@schedules
@four
def test_a_later_turn_reports_its_own_work_and_all_that_is_cached(family, schedule):
    model, new = wrapped(family, recipe(schedule), "eager"), [2, (4, 8, 6), 3]
    given = later(model, family, BATCHES["one"], [new])
    before = given[CACHE].get_seq_length()
    layers = measured(model, lambda: generate(model, given, tokens=1))
    report, cached = model.vtc.report, given[CACHE].layers
    trace = report.decoder
    assert trace.earlier == (before,)
    assert trace.prompt == (given["input_ids"].shape[1] - before,)
    assert trace.prefill_flops == layers
    assert report.prefill_flops_after == report.prefill_flops_before == trace.cost.turn_flops(*trace.prompt, before)
    assert trace.kv_bytes == tuple(layer.keys.nbytes + layer.values.nbytes for layer in cached)
    assert trace.kv_bytes_saved + sum(trace.kv_bytes) == trace.cost.kv_bytes * given["input_ids"].shape[1]
    forgetful = replace(trace, past=())
    assert forgetful.prefill_flops < layers
    assert forgetful.kv_bytes < trace.kv_bytes


@pytest.mark.parametrize(("schedule", "before"), [("layer-0", None), ("pyramid", 0.5)])
@four
def test_padding_counts_in_no_turn(family, schedule, before):
    """A batch reports what its rows report by themselves, though the first turn pads them."""
    model = wrapped(family, recipe(schedule, before=before))
    lines, new = [[3, (1, 12, 4), 5], [2, (3, 8, 6), 9]], [[2, (4, 8, 6), 3], [2, (5, 8, 6), 3]]

    def traced(rows: slice) -> Trace:
        generate(model, later(model, family, lines[rows], new[rows]), tokens=1)
        return model.vtc.report.decoder

    batch, singles = traced(slice(2)), [traced(slice(1)), traced(slice(1, 2))]
    assert batch.earlier == singles[0].earlier + singles[1].earlier
    assert batch.prompt == singles[0].prompt + singles[1].prompt
    assert batch.kv_bytes == tuple(map(sum, zip(*(one.kv_bytes for one in singles), strict=True)))
    assert batch.prefill_flops == sum(one.prefill_flops for one in singles)
    assert batch.kv_bytes_saved == sum(one.kv_bytes_saved for one in singles)


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
