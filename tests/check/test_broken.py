"""`vtc check`: what is broken before the language model fails in the row that is there to find it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from tests.check_models import NAMES, checked
from tests.families import LLAVA
from tests.families.odd import ODD
from tests.families.odd_grids import ODD_GRIDS, ODD_VIDEOS
from tests.names import CACHE
from vtc import Recipe, Reduction
from vtc.adapters import Adapter
from vtc.adapters.llava import Llava
from vtc.check.context import CheckContext, CheckPrompt
from vtc.check.runner import check
from vtc.core.flops import DecoderCost
from vtc.reduction import forward_hooks, generate_hooks, handle
from vtc.reduction.pipeline import ItemCounts
from vtc.reduction.prompt import PromptMap
from vtc.reduction.request import RequestBuilder
from vtc.stages import (
    STAGES,
    Mean,
    Merger,
    Selector,
    Stride,
)

# What is wrong is found where it should be


@dataclass(frozen=True)
class Crowded(Selector):
    """Looks beyond its own item: at what `seen` holds of the request."""

    name = "crowded"
    seen = [0]  # noqa: RUF012

    def select(self, tokens, pool, k, *, seed):
        return pool[self.seen[0] % 5 :][:k]


@dataclass(frozen=True)
class Rounding(Selector):
    """Scores in the features' own dtype."""

    name = "rounding"

    def select(self, tokens, pool, k, *, seed):
        return pool[tokens.features[pool].sum(dim=-1).topk(k).indices].sort().values


@dataclass(frozen=True)
class Flipped(Merger):
    """`Mean`, with its outputs in reverse."""

    name = "flipped"

    def merge(self, tokens, anchor):
        found = Mean().merge(tokens, anchor)
        assign = torch.where(found.assign < 0, found.assign, len(anchor) - 1 - found.assign)
        return Reduction(found.anchor.flip(0), assign, found.weight)


def around(patch, owner, name, change):
    """Replaces a method by `change(the method, its arguments)`."""
    stock = owner.__dict__[name] if name in owner.__dict__ else getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **kwargs: change(stock, *args, **kwargs))


def late_positions(patch):
    def change(stock, *args):
        found = stock(*args)
        return found + (found > 4)

    around(patch, Llava, "positions", change)


def lost_text(patch):
    def change(keep, *, left):
        keep[:, -2] = False
        return stock(keep, left=left)

    stock = PromptMap.keeping
    patch.setattr(PromptMap, "keeping", change)


def other_text(patch):
    def change(stock, *args):
        short = stock(*args)
        short["input_ids"][:, 0] = 5
        return short

    for module in (generate_hooks, forward_hooks):
        around(patch, module, "shortened", change)


def company(patch):
    def change(stock, self, media, cues):
        Crowded.seen[0] = len(media)
        return stock(self, media, cues)

    around(patch, Llava, "encode", change)


def first_in_line(patch):
    def change(stock, self, media, cues):
        Crowded.seen[0] = media[0].key
        return stock(self, media, cues)

    around(patch, Llava, "encode", change)


def left_hook(patch):
    def change(stock, self):
        stock(self)
        self.model.get_decoder().layers[1].register_forward_hook(lambda *args: None)

    around(patch, handle.Handle, "_detach", change)


def wrong_count(patch):
    around(patch, handle.Handle, "count", lambda stock, self, **inputs: [n + 1 for n in stock(self, **inputs)])


def no_identity(patch):
    def change(stock, self, media, cues):
        return [replace(tokens, features=tokens.features * 1.01) for tokens in stock(self, media, cues)]

    stock = ItemCounts.of
    patch.setattr(ItemCounts, "of", lambda recipe, media: replace(stock(recipe, media), identity=False))
    around(patch, Llava, "encode", change)


def late_steps(patch):
    def change(stock, self, *args, **kwargs):
        given = stock(self, *args, **kwargs)
        cache = kwargs.get(CACHE)
        if "vtc" in (kwargs.get("mm_encoder_outputs") or {}) and cache is not None and cache.get_seq_length():
            given["position_ids"] = given["position_ids"] + 3
        return given

    around(patch, generate_hooks.GenerateHooks, "prepare_inputs_for_generation", change)


def other_stream(patch):
    def change(stock, self, *args, **kwargs):
        if kwargs.get("streamer") is not None:
            kwargs["suppress_tokens"] = list(range(0, 100, 2))
        return stock(self, *args, **kwargs)

    around(patch, generate_hooks.GenerateHooks, "generate", change)


def other_file(patch):
    load = Recipe.load
    patch.setattr(Recipe, "load", lambda path: replace(load(path), keep=3))


def free_of_charge(patch):
    patch.setattr(DecoderCost, "prefill_flops", lambda self, tokens: 0)


CONTROLS = {
    late_positions: (Stride(), {"positions", "prefill"}),
    lost_text: (Stride(), {"counts", "embeddings", "positions", "prefill", "two turns"}),
    other_text: (Stride(), {"embeddings", "prefill"}),
    company: (Crowded(), {"a batch"}),
    first_in_line: (Crowded(), {"a batch", "permuting"}),
    left_hook: (Stride(), {"restore"}),
    wrong_count: (Stride(), {"counts"}),
    no_identity: (Stride(), {"keep=1.0", "prefill"}),
    late_steps: (Stride(), {"cache", "two turns"}),
    other_stream: (Stride(), {"greedy"}),
    other_file: (Stride(), {"a saved"}),
    free_of_charge: (Stride(), {"the report's"}),
    "scores in half precision": (Rounding(), {"fp32"}),
    "outputs in reverse": ((Stride(), Flipped()), {"kept", "prefill"}),
}


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: getattr(control, "__name__", control))
def test_what_is_broken_fails_its_own_row_and_no_other(control, positions, monkeypatch):
    stages, wanted = CONTROLS[control]
    for stage in (Crowded, Rounding, Flipped):
        monkeypatch.setitem(STAGES._entries, f"{stage.kind}/{stage.name}", stage)
    recipe = Recipe(stages if isinstance(stages, tuple) else (stages,), positions=positions)
    model = LLAVA.build()
    assert control in (company, first_in_line) or isinstance(control, str) or checked(model, [recipe]).holds
    if callable(control):
        control(monkeypatch)
    # These spoil requests with images: a row of text goes wrong in such company only, which its own row finds too.
    alone = (late_positions, lost_text, other_text, late_steps)
    result = checked(model, [recipe], batch=control not in alone)
    failing = {row.name for row in result.rows if row.holds is False}
    if positions == "compact" and control is late_positions:
        wanted = {"positions"}  # by hand, compact positions are those that were given
    assert failing == {name for name in NAMES if name.startswith(tuple(wanted))}, [r.failures for r in result.rows]
    assert not result.holds
    assert all(row.name in result.summary for row in result.rows if row.holds is False)


# Faults of further classes, put back


def forgotten_positions(patch):
    patch.setattr("vtc.reduction.wrapped_model.dropped_arguments", lambda adapter: ())


def unknown_marks(patch):
    known = {name: fill for name, fill in Adapter.token_arguments.items() if not name.startswith("moe")}
    patch.setattr(Adapter, "token_arguments", known)
    patch.setattr("vtc.reduction.columns._check_unknown", lambda *args: None)


def whole_positions(patch):
    around(patch, RequestBuilder, "_positions", lambda stock, *args: stock(*args).long())


def lenient_forward(patch):
    patch.setattr(Adapter, "check_positions", lambda self, inputs: None)


FAULTS = {
    forgotten_positions: (ODD_GRIDS, "Exaone4_5", {"positions"}),
    unknown_marks: (ODD_GRIDS, "Ernie4_5", {"marks"}),
    whole_positions: (ODD_VIDEOS, "Qwen3Omni", {"positions"}),
    lenient_forward: (ODD, "Paddle", {"what the stock"}),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_faults_of_further_classes_are_found(fault, monkeypatch):
    known, name, wanted = FAULTS[fault]
    odd = next(one for one in known if one.name.startswith(name))
    model, recipe = odd.build(), Recipe((Stride(),), keep=0.4)
    cases = [CheckPrompt("one", odd.inputs([[2, 3, 6]])), CheckPrompt("two", odd.inputs([[3, 1, 4, 2, 5]]))]
    sound = check(CheckContext(model, cases, [recipe], 3))
    assert sound.holds, [row.failures for row in sound.rows if row.failures]
    fault(monkeypatch)
    result = check(CheckContext(model, cases, [recipe], 3))
    failing = {row.name for row in result.rows if row.holds is False}
    assert all(any(row.startswith(start) for row in failing) for start in wanted), failing
