"""`vtc check`: what is broken inside the language model fails in its own row, and what rounding did is told apart."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from tests.check.test_broken import (
    Crowded,
    around,
    company,
    left_hook,
)
from tests.check_models import FEW, NAMES, checked
from tests.cli.test_main import vtc_command
from tests.families import LLAVA
from vtc import Recipe
from vtc.check import capture, decoder_invariants, tolerance
from vtc.check import runner as checking
from vtc.check.decoder_invariants import alike, keeping_all
from vtc.check.invariants import Check
from vtc.check.masked_reference import _without
from vtc.check.runner import CHECKS, recipes
from vtc.check.tolerance import CheckResult
from vtc.reduction.decoder import engine
from vtc.reduction.decoder import sparse_cache as caches
from vtc.reduction.decoder.report import Trace
from vtc.stages import STAGES, VTW, FastV, Layerwise, Resize, Stride, ToDRE
from vtc.stages.decoder import Cut, DecoderStage

# What is wrong inside the language model


@dataclass(frozen=True)
class CrowdedInside(DecoderStage):
    """Looks beyond its own item."""

    schedule: Any = ((1, 0.5),)
    name = "crowded-inside"

    def keep(self, tokens, count, cut):
        return torch.arange(len(tokens))[Crowded.seen[0] % 2 :][:count]


def other_trace(patch):
    def change(stock, self, stayed):
        found = {layer: [replace(one, index=one.index - 1) for one in items] for layer, items in stayed.items()}
        stock(self, found)

    around(patch, Trace, "note", change)


def one_more(patch):
    def change(stock, *args):
        return {layer: replace(entry, cut=Due(entry.cut)) for layer, entry in stock(*args).items()}

    around(patch, Cut, "count", lambda stock, self, first: stock(self, first) + 1)
    around(patch, decoder_invariants, "planned_cuts", change)


@dataclass(frozen=True)
class Due:
    """What a cut leaves where nothing is broken."""

    cut: Cut

    def count(self, first):
        return self.cut.count(first) - 1


def only_masked(patch):
    """The layers are given everything, as if what left were only masked."""

    def change(stock, model):
        with stock(model) as first_call:
            yield first_call
        first_call.widths[:] = first_call.widths[:1] * len(first_call.widths)

    around(patch, capture, "_first_call", lambda stock, model: contextmanager(change)(stock, model))


def scaled(patch):
    around(patch, engine, "cut_before", lambda stock, step, states, *args: stock(step, states * 1.01, *args))


def company_inside(patch):
    company(patch)


def physical_length(patch):
    classes = [caches.shortened_class(base) for base in (DynamicLayer,)]
    for one in classes:
        patch.setattr(one, "get_seq_length", lambda self: self.keys.shape[2] if self.is_initialized else 0)


def free_inside(patch):
    patch.setattr(Trace, "prefill_flops", property(lambda self: 1 + self.cost.linear_flops * 10**9))


INSIDE = {
    other_trace: {"kept", "prefill", "two turns"},
    one_more: {"counts"},
    only_masked: {"counts"},
    scaled: {"keep=1.0", "cache", "prefill", "two turns"},
    company_inside: {"a batch"},
    physical_length: {"two turns"},
    free_inside: {"the report's"},
}


@pytest.mark.parametrize("control", INSIDE, ids=lambda control: control.__name__)
def test_what_is_broken_inside_fails_its_own_row_and_no_other(control, monkeypatch):
    monkeypatch.setitem(STAGES._entries, "decoder/crowded-inside", CrowdedInside)
    crowded, first = control is company_inside, control is physical_length
    stage = CrowdedInside() if crowded else Layerwise(((0 if first else 1, 0.5),))
    model = LLAVA.build()
    assert crowded or checked(model, [Recipe((stage,))], batch=False).holds
    control(monkeypatch)
    result = checked(model, [Recipe((stage,))], batch=crowded)
    failing = {row.name for row in result.rows if row.holds is False}
    wanted = tuple(INSIDE[control])
    assert failing == {name for name in NAMES if name.startswith(wanted)}, [r.failures for r in result.rows]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llavolta", "sparsevlm", "vtw", "todre+late"])
def test_stages_that_fold_or_withdraw(name, attention):
    result = checked(LLAVA.build(attention), recipes([name], positions="original"), batch=False)
    assert result.holds, [row.failures for row in result.rows]
    blind = [row.name for row in result.rows if row.holds is None]
    assert (NAMES[0] in blind) == (name == "vtw")


def test_what_keeping_all_means():
    assert keeping_all(Recipe((Layerwise(((1, 9), (2, 3))),))).decoder[0].schedule == ((1, 1.0), (2, 1.0))
    assert keeping_all(Recipe((Stride(), VTW()))) == Recipe((Stride(),), keep=1.0)
    assert keeping_all(Recipe((Resize(share=0.5), Stride()))) is None
    assert keeping_all(Recipe((ToDRE(),))) is None


def test_masks_of_each_kernel_say_the_same():
    states, gone = torch.zeros(1, 4, 8), torch.tensor([1])
    seen = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()
    causal = torch.ones(4, 4).tril().bool()[None, None]
    added = torch.where(causal, 0.0, torch.finfo(torch.float32).min)
    assert torch.equal(_without(None, gone, states, "sdpa")[0, 0], seen)
    assert torch.equal(_without(causal, gone, states, "sdpa")[0, 0], seen)
    assert torch.equal(_without(added, gone, states, "eager")[0, 0] == 0, seen)
    assert _without(None, gone, states, "flash_attention_2").tolist() == [[True, False, True, True]]
    assert _without(torch.ones(1, 4).long(), gone, states, "flash_attention_2").tolist() == [[1, 0, 1, 1]]
    assert _without(None, gone[:0], states, "sdpa") is None


def test_rows_in_which_rounding_chose_otherwise_are_set_aside_in_half_precision_only():
    check_run = SimpleNamespace(exact=False, recipe=Recipe((FastV(((1, 0.5),)),)))
    runs_ = [SimpleNamespace(kept=lambda r: [], inside=lambda r, left=left: [(1, left)]) for left in ([1], [2])]
    pairs = [(runs_[0], 0, runs_[1], 0), (runs_[0], 0, runs_[0], 0)]
    found = alike(check_run, pairs, lambda left: CheckResult(len(left), 5))
    assert (found.worst, found.note) == (1, "rounding changed what left inside the language model in 1 of 2 rows")
    check_run.exact = True
    assert not alike(check_run, pairs, lambda left: CheckResult(0)).holds
    check_run.exact, check_run.recipe = False, Recipe((Layerwise(((1, 0.5),)),))
    assert not alike(check_run, pairs, lambda left: CheckResult(0)).holds


def test_rows_in_which_rounding_kept_other_places_are_not_compared(monkeypatch):
    monkeypatch.setattr(tolerance, "_selected_alone", lambda check_run: True)
    monkeypatch.setattr(tolerance, "_stock_drift", lambda check_run, case: 0.0)
    check_run = SimpleNamespace(exact=False, case=None, model=SimpleNamespace(dtype=torch.bfloat16))
    check_run.context = SimpleNamespace(cases=[None])

    def run(place: int, best: int) -> capture.GenerationCapture:
        item = SimpleNamespace(row=0, reduction=SimpleNamespace(anchor=torch.tensor([place, 9])))
        logits = torch.eye(7)[best].expand(1, 1, -1)
        return capture.GenerationCapture(torch.tensor([[best]]), logits, (), SimpleNamespace(items=[item]))

    one, other, wrong = run(1, 0), run(2, 5), run(1, 3)
    found = tolerance.same_rows(check_run, [(one, 0, other, 0), (one, 0, one, 0)])
    assert (found.worst, found.note.split(";")[0]) == (0, "in 1 rows the encoder's rounding changed 2 kept places")
    assert not tolerance.same_rows(check_run, [(one, 0, other, 0), (one, 0, wrong, 0)]).holds
    check_run.exact = True
    assert not tolerance.same_rows(check_run, [(one, 0, other, 0), (one, 0, one, 0)]).holds


def test_the_command_names_what_fails_and_exits_with_1(monkeypatch):
    left_hook(monkeypatch)
    result = vtc_command("check", *FEW)
    assert result.exit_code == 1
    assert f"{len(NAMES) - 3} of {len(NAMES) - 2} hold; these fail: restore leaves nothing behind" in result.text
    assert "kcenter, original, one image: 1 modules (0 allowed; attributes or hooks were left on" in result.text
    assert next(line.split()[-1] for line in result.stdout.splitlines() if "restore leaves" in line) == "NO"


def test_an_exception_is_a_failure_and_stops_nothing(monkeypatch):
    def explode(check_run):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(checking, "CHECKS", (Check("explodes", explode), *CHECKS))
    result = checked(LLAVA.build(), recipes(["stride"], positions="original"), batch=False)
    assert result.rows[0].holds is False
    assert result.rows[0].failures[0] == "stride, original, one image: RuntimeError: out of memory"
    assert all(row.holds for row in result.rows[1:] if row.holds is not None)
    assert result.summary.endswith(", a batch equals its singles, permuting the batch permutes answers")
