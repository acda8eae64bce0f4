"""Negative controls: every check of the grid fails on what it is there to find."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, replace

import pytest
import torch

from tests import oracle
from tests.checks import (
    check_beams,
    check_chosen,
    check_close,
    check_compact,
    check_counts,
    check_decoding,
    check_forward,
    check_given,
    check_kept,
    check_original,
    check_same,
    check_text,
    footprint,
    kept_columns,
    neighbourhood,
)
from tests.families import visual
from tests.grid import (
    UNEVEN,
    bench,
    every_family,
    fresh,
    generate,
    kept_by_row,
    steps,
    stock,
    watching,
)
from vtc import Recipe, Reduction, reduce_tokens
from vtc.stages import (
    Mean,
    Merger,
    Selector,
    Stride,
)

RIGHT = Recipe((Stride(), Mean()), keep=0.3)
caught = pytest.raises(AssertionError)


@dataclass(frozen=True)
class Wrong(Selector):
    """`Stride`, spoilt in one of several ways."""

    how: str
    name = "wrong"

    def select(self, tokens, pool, k, *, seed):
        places = Stride().select(tokens, pool, k, seed=seed)
        if self.how == "shifted":
            return pool[(torch.searchsorted(pool, places) + 1) % len(pool)].sort().values
        if self.how == "doubled":
            return torch.cat([places[:1], places[:-1]])
        if self.how == "short":
            return places[1:]
        assert self.how == "long"
        return pool[: k + 1]


@dataclass(frozen=True)
class HeavyAnchor(Merger):
    """`Mean`, but the kept token counts twice."""

    name = "heavy"

    def merge(self, tokens, anchor):
        found = Mean().merge(tokens, anchor)
        weight = found.weight.clone()
        weight[anchor] = 2
        return Reduction(found.anchor, found.assign, weight)


@dataclass(frozen=True)
class Leaky(Selector):
    """Chooses by how often it was called: by the place in the batch."""

    name = "leaky"
    calls = []  # noqa: RUF012

    def select(self, tokens, pool, k, *, seed):
        self.calls.append(k)
        return pool[len(self.calls) % 2 :][:k]


def run(family, recipe: Recipe, **options):
    """The wrapped model, its answer, and what its language model was given first."""
    model = reduce_tokens(bench(family), recipe)
    with watching(model) as calls:
        out = generate(model, family.inputs(UNEVEN), tokens=3, **options)
    return model, out, calls[0]


def planned(family, recipe: Recipe = RIGHT) -> list[oracle.Plan]:
    return oracle.plans(stock(family), family, family.inputs(UNEVEN), recipe)


@every_family
@pytest.mark.parametrize("stages", [(Wrong("shifted"), Mean()), (Stride(),), (Stride(), HeavyAnchor())], ids=str)
def test_other_tokens_and_other_weights_are_found(family, stages):
    model, out, rows = run(family, replace(RIGHT, stages=stages))
    plans = planned(family)
    with caught:
        check_given(rows, plans)
    with caught:
        check_decoding(stock(family), plans, out.sequences, steps(out))
    with caught, torch.no_grad():
        check_forward(stock(family), plans, model(**family.inputs(UNEVEN)).logits)
    if isinstance(stages[0], Wrong):
        with caught:
            check_kept(model.vtc.report, plans)


@every_family
def test_positions_off_by_one_are_found(family):
    _, out, rows = run(family, RIGHT)
    plans = planned(family)
    check_given(rows, plans)
    check_decoding(stock(family), plans, out.sequences, steps(out))
    late = [
        replace(planned_cuts, positions=planned_cuts.positions + (torch.arange(len(planned_cuts.embeds)) > 4))
        for planned_cuts in plans
    ]
    with caught:
        check_given(rows, late)
    with caught:
        check_decoding(stock(family), late, out.sequences, steps(out))
    with caught:
        check_decoding(stock(family), [replace(p, following=p.following + 1) for p in plans], out.sequences, steps(out))


@every_family
def test_the_other_kind_of_positions_is_found(family):
    _, out, rows = run(family, RIGHT)
    other = planned(family, replace(RIGHT, positions="compact"))
    for check in (
        lambda: check_given(rows, other),
        lambda: check_decoding(stock(family), other, out.sequences, steps(out)),
        lambda: check_compact(rows),
    ):
        with caught:
            check()


@every_family
def test_wrong_beams_are_found(family):
    _, out, _ = run(family, RIGHT, num_beams=2, num_return_sequences=2, output_scores=True)
    plans = planned(family)
    check_beams(stock(family), plans, out, length=3)
    with caught:
        check_beams(stock(family), plans[::-1], out, length=3)


@every_family
def test_features_out_of_order_are_found(family):
    _, _, rows = run(family, RIGHT)
    plans = planned(family)
    place = next(p for p in range(5, 9) if not torch.equal(plans[0].embeds[p], plans[0].embeds[p + 1]))
    swapped = plans[0].embeds.clone()
    swapped[[place, place + 1]] = swapped[[place + 1, place]]
    with caught:
        check_given(rows, [replace(plans[0], embeds=swapped), *plans[1:]])


@every_family
def test_touched_text_and_moved_tokens_are_found(family):
    model, _, rows = run(family, RIGHT)
    inputs, report = family.inputs(UNEVEN), model.vtc.report
    check_text(model, inputs, report, rows)
    nudged = rows[0].embeds.clone()
    nudged[1, 0] += 1e-6
    for wrong in (replace(rows[0], embeds=nudged), replace(rows[0], embeds=rows[0].embeds.roll(1, 0))):
        with caught:
            check_text(model, inputs, report, [wrong, *rows[1:]])
    kept = kept_columns(inputs, report, model)
    width = inputs["input_ids"].shape[1]
    full = [row.positions.new_full((len(row.positions), width), -1) for row in rows]
    for row, columns, values in zip(rows, kept, full, strict=True):
        values[:, columns] = row.positions
    check_original(kept, full, rows)
    with caught:
        check_original(kept, [values + 1 for values in full], rows)
    with caught:
        check_original([[*columns[:-1], columns[-1] - 1] for columns in kept], full, rows)


@every_family
def test_a_token_too_many_or_too_few_is_found(family):
    model, _, rows = run(family, RIGHT)
    inputs = family.inputs(UNEVEN)
    declared = model.vtc.count(**inputs)
    real = ~visual(inputs["input_ids"], model) & inputs["attention_mask"].bool()
    text = real.sum(dim=1).tolist()
    check_counts(declared, model.vtc.report, rows, text)
    lost = replace(rows[0], embeds=rows[0].embeds[1:])
    for wrong in (
        lambda: check_counts([declared[0] + 1, *declared[1:]], model.vtc.report, rows, text),
        lambda: check_counts(declared, model.vtc.report, [lost, *rows[1:]], text),
    ):
        with caught:
            wrong()


@pytest.mark.parametrize("places", [[3, 1], [1, 1], [-1, 2], [0, 9]], ids=str)
def test_unsorted_doubled_and_outer_places_are_found(places):
    check_chosen(torch.tensor([0, 1, 8]), 9)
    with caught:
        check_chosen(torch.tensor(places), 9)


@every_family
@pytest.mark.parametrize("how", ["doubled", "short", "long"])
def test_a_selector_that_breaks_its_contract_is_refused(family, how):
    with pytest.raises(ValueError, match=r"'wrong' kept \d+ tokens \(\d+ different\) where \d+ were due"):
        run(family, replace(RIGHT, stages=(Wrong(how),)))


@every_family
def test_a_selector_that_looks_at_the_batch_is_found(family):
    model = reduce_tokens(bench(family), Recipe((Leaky(),), keep=0.3))
    generate(model, family.inputs(UNEVEN))
    batch = kept_by_row(model, len(UNEVEN))
    generate(model, family.inputs(UNEVEN[1:2]))
    assert kept_by_row(model, 1) != batch[1:2]


def test_small_differences_are_found():
    values = torch.linspace(-3, 3, 50)
    check_same(values, values.clone(), "values")
    check_close(values, values + 1e-6, "values")
    with caught:
        check_same(values, values + 1e-7, "values")
    with caught:
        check_close(values, values + 1e-4, "values")


@every_family
def test_what_stays_behind_is_found(family):
    model = fresh(family)
    before = footprint(model)
    handle = model.get_decoder().layers[0].register_forward_hook(lambda *args: None)
    assert footprint(model) != before
    handle.remove()
    assert footprint(model) == before
    model.get_decoder().note = 1
    assert footprint(model) != before


@every_family
def test_a_patched_class_or_module_is_found(family, monkeypatch):
    model = fresh(family)
    before = neighbourhood(model)
    with monkeypatch.context() as patch:
        patch.setattr(type(model.get_decoder()), "forward", lambda self: None)
        assert neighbourhood(model) != before
    with monkeypatch.context() as patch:
        patch.setenv("VTC_CONTROL", "1")
        assert neighbourhood(model) != before
    assert neighbourhood(model) == before


def test_deprecated_uses_fail_a_test():
    logger = logging.getLogger("transformers.modeling_utils")
    with pytest.raises(AssertionError, match="deprecated use of transformers"):
        logger.warning("`x` is deprecated, use `y`")
    logger.warning("a warning of another kind")
    with pytest.raises(FutureWarning):
        warnings.warn_explicit("x will go", FutureWarning, "modeling_utils.py", 1, module="transformers.modeling_utils")
