"""Every prefill and every decoding step equals the run in which what left is masked from that layer on."""

from __future__ import annotations

import pytest
import torch

from tests import oracle
from tests.checks import check_beams, check_close, check_decoding
from tests.grid import generate, steps, stock
from tests.reduction.decoder.common import (
    BATCHES,
    FOUR,
    FULL,
    every_full,
    every_schedule,
    recipe,
    told,
    wrapped,
)

four = pytest.mark.parametrize("family", FOUR, ids=lambda family: family.name)


@pytest.mark.parametrize("before", [None, 0.5], ids=["alone", "after-kcenter"])
@every_schedule
@pytest.mark.parametrize(
    ("family", "batch", "attention"),
    [(f, batch, kernel) for f in FOUR for batch in BATCHES for kernel in ("sdpa", "eager")]
    + [(f, "uneven", "sdpa") for f in FULL if f not in FOUR],
    ids=lambda value: getattr(value, "name", value),
)
def test_greedy(family, schedule, batch, attention, before):
    inputs = family.inputs(BATCHES[batch])
    model = wrapped(family, recipe(schedule, before=before), attention)
    out = generate(model, inputs, tokens=4)
    check_decoding(stock(family, attention), told(model, family, inputs), out.sequences, steps(out))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("cache", [True, False])
@every_schedule
@every_full
@torch.no_grad()
def test_forward(family, schedule, cache, side):
    inputs = family.inputs(BATCHES["uneven"], side)
    model = wrapped(family, recipe(schedule, before=0.7))
    logits = model(**inputs, use_cache=cache).logits
    for r, planned_cuts in enumerate(told(model, family, inputs)):
        lost = {token for tokens in planned_cuts.gone.values() for token in tokens}
        alive = [i for i in range(len(planned_cuts.columns)) if i not in lost]
        want = oracle.logits(stock(family), planned_cuts)[alive]
        check_close(logits[r, [planned_cuts.columns[i] for i in alive]], want, f"row {r}: logits")


@every_schedule
@four
def test_beams(family, schedule):
    inputs = family.inputs(BATCHES["uneven"])
    model = wrapped(family, recipe(schedule))
    out = generate(model, inputs, tokens=4, num_beams=3, num_return_sequences=2, output_scores=True)
    check_beams(stock(family), told(model, family, inputs), out, length=4)
