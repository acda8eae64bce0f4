"""Every named recipe with decoder stages, on every family that the engine is made for first."""

from __future__ import annotations

import pytest

from tests.checks import check_beams, check_close, check_decoding
from tests.grid import generate, steps, stock
from tests.reduction.decoder.common import (
    BATCHES,
    four,
    told,
    wrapped,
)
from vtc import Recipe, named_recipes
from vtc.stages import FastV, LLaVolta, SparseVLM, ToDRE

NAMED = [r for r in named_recipes() if r.decoder]
RECIPES = [
    *NAMED,
    Recipe((ToDRE(threshold=1.0),), name="todre-always"),
    Recipe((FastV(((1, 0.25), (2, 0))),), name="fastv-withdraw"),
    Recipe((LLaVolta(((0, 0.5), (2, 0.25))),), name="llavolta-twice"),
]
FOLDS = (LLaVolta, SparseVLM)
every_recipe = pytest.mark.parametrize("chosen", RECIPES, ids=lambda r: r.name)
every_pruning = pytest.mark.parametrize(
    "chosen", [r for r in RECIPES if not isinstance(r.decoder[-1], FOLDS)], ids=lambda r: r.name
)


def test_all_are_here():
    names = {"fastv", "pyramiddrop", "feather", "sparsevlm", "todre-late", "vtw", "llavolta", "layerwise"}
    assert {r.name for r in NAMED} >= names | {"kcenter+layerwise", "kcenter+feather", "todre+late"}


@every_pruning
@four
def test_greedy(family, chosen):
    model, inputs = wrapped(family, chosen), family.inputs(BATCHES["uneven"])
    out = generate(model, inputs)
    check_decoding(stock(family), told(model, family, inputs), out.sequences, steps(out))


@every_pruning
@four
def test_beams(family, chosen):
    model, inputs = wrapped(family, chosen), family.inputs(BATCHES["uneven"])
    out = generate(model, inputs, num_beams=3, num_return_sequences=2, output_scores=True)
    check_beams(stock(family), told(model, family, inputs), out, length=4)


@every_recipe
@four
def test_a_batch_equals_its_rows(family, chosen):
    rows, model = BATCHES["uneven"], wrapped(family, chosen)
    together = generate(model, family.inputs(rows))
    beams = generate(model, family.inputs(rows), num_beams=2)
    for r, row in enumerate(rows):
        inputs = family.inputs([row])
        check_close(steps(generate(model, inputs))[0], steps(together)[r], f"row {r} alone")
        assert generate(model, inputs, num_beams=2).sequences[0, -4:].tolist() == beams.sequences[r, -4:].tolist()


@every_recipe
@four
def test_other_ways_of_decoding(family, chosen):
    model, inputs = wrapped(family, chosen), family.inputs(BATCHES["uneven"])
    want = generate(model, inputs)
    check_close(steps(generate(model, inputs, cache_implementation="static")), steps(want), "a static cache")
