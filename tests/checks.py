"""The checks of the grid as functions over plain values, so that the negative controls can call them on wrong ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests import oracle
from tests.families import visual
from tests.grid import Row
from tests.oracle import Plan
from vtc import Report

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def check_close(got: Tensor, want: Tensor, what: str) -> None:
    """Equal to 1e-5, absolute or relative."""
    torch.testing.assert_close(got, want, **CLOSE, msg=lambda text: f"{what}: {text}")


def check_same(got: Tensor, want: Tensor, what: str) -> None:
    """Equal bit for bit."""
    assert torch.equal(got, want), f"{what} differ, by at most {(got - want).abs().max()}"


def check_chosen(anchor: Tensor, total: int) -> None:
    """Places of `total` tokens: ascending, unique, int64."""
    assert anchor.dtype == torch.int64
    assert anchor.ndim == 1
    places = anchor.tolist()
    assert places == sorted(set(places)), f"not sorted and unique: {places}"
    assert all(0 <= place < total for place in places), f"outside of {total}: {places}"


def check_counts(declared: Sequence[int], report: Report, rows: Sequence[Row], text: Sequence[int]) -> None:
    """What was declared beforehand, what the report says and what the model was given are one number.

    Args:
        declared: visual tokens of each item.
        report: of the call.
        rows: what the language model was given.
        text: each row's number of text tokens.
    """
    assert [item.after + item.structural for item in report.items] == list(declared)
    assert [len(item.reduction.anchor) for item in report.items] == list(declared)
    assert sum(declared) == report.after
    for r, (row, words) in enumerate(zip(rows, text, strict=True)):
        visual = sum(count for count, item in zip(declared, report.items, strict=True) if item.row == r)
        assert len(row.embeds) == words + visual, f"row {r} was given {len(row.embeds)} tokens"
        assert report.prompt_after[r] == words + visual


def kept_columns(inputs: dict[str, Tensor], report: Report, model: nn.Module) -> list[list[int]]:
    """The columns of each row of the caller's prompt that go on, by the report: all text, and the kept visual ones."""
    rows = []
    for r, (ids, mask) in enumerate(zip(inputs["input_ids"], inputs["attention_mask"], strict=True)):
        columns = torch.nonzero(~visual(ids, model) & (mask == 1)).flatten().tolist()
        for kind, token in oracle.kinds(model).items():
            places = torch.nonzero(ids == token).flatten().tolist()
            for item in (item for item in report.items if item.row == r and item.modality == kind):
                own, places = places[: len(item.layout)], places[len(item.layout) :]
                columns += [own[place] for place in item.reduction.anchor.tolist()]
            assert not places, f"row {r} has {len(places)} placeholders of no item"
        rows.append(sorted(columns))
    return rows


def check_text(model: nn.Module, inputs: dict[str, Tensor], report: Report, rows: Sequence[Row]) -> None:
    """Every text token of the prompt was given, in order, with its own embedding, bit for bit."""
    for ids, columns, row in zip(inputs["input_ids"], kept_columns(inputs, report, model), rows, strict=True):
        assert len(row.embeds) == len(columns)
        text = ~visual(ids[columns], model)
        check_same(row.embeds[text], model.get_input_embeddings()(ids[columns][text]), "embeddings of text")


def check_original(columns: Sequence[Sequence[int]], full: Sequence[Tensor], rows: Sequence[Row]) -> None:
    """Each token stands where the unreduced prompt put it, on all axes.

    Args:
        columns: of each row, which of its real columns go on, counted without padding.
        full: `[axes, L]` each row's positions in the unreduced prompt.
        rows: what the language model was given.
    """
    for kept, positions, row in zip(columns, full, rows, strict=True):
        check_same(row.positions, positions[:, list(kept)], "positions")


def check_compact(rows: Sequence[Row]) -> None:
    """Positions count up from 0 and leave no gap: on one axis one by one; height and width taken together.

    A video's time may run in steps of more than one.
    """
    for row in rows:
        places = row.positions if len(row.positions) == 1 else row.positions[1:]
        assert sorted(set(places.flatten().tolist())) == list(range(int(places.max()) + 1)), f"gaps in {places}"
        if len(places) == 1:
            assert places[0].tolist() == list(range(places.shape[1]))
        assert bool((places.amax(dim=0).diff() >= -int(places.max())).all())


def check_given(rows: Sequence[Row], plans: Sequence[Plan]) -> None:
    """The language model was given the very prompt that the oracle made by hand."""
    for row, plan in zip(rows, plans, strict=True):
        check_same(row.positions, plan.positions, "positions")
        check_close(row.embeds, plan.embeds, "embeddings")


def check_kept(report: Report, plans: Sequence[Plan]) -> None:
    """The report names the places and the cells that the oracle kept."""
    items = [(r, item) for r, plan in enumerate(plans) for item in plan.items]
    for got, (row, want) in zip(report.items, items, strict=True):
        assert got.row == row
        assert got.reduction.anchor.tolist() == want.anchor
        structural = got.layout.structural[want.anchor]
        # The report goes unit by unit, the tokens of tiles row by row.
        order = got.layout.unit[want.anchor][~structural].argsort(stable=True)
        check_same(torch.cat([unit.cells for unit in got.units]), want.cells[~structural][order], "cells")


def check_decoding(model: nn.Module, plans: Sequence[Plan], sequences: Tensor, logits: Tensor) -> None:
    """Every step of greedy decoding is that of the loop without cache: tokens equal, logits to 1e-5.

    Args:
        model: the stock one.
        plans: of each row.
        sequences, logits: `[B, L + T]`, `[B, T, V]` as generated.
    """
    length = logits.shape[1]
    for r, plan in enumerate(plans):
        tokens, want = oracle.greedy(model, plan, length)
        check_close(logits[r], want, f"row {r}: logits")
        assert sequences[r, -length:].tolist() == tokens


def check_beams(model: nn.Module, plans: Sequence[Plan], out: Any, length: int) -> None:
    """The score of each returned beam is what the loop without cache gives to its tokens, per token."""
    per_row = len(out.sequences) // len(plans)
    for b, (sequence, score) in enumerate(zip(out.sequences, out.sequences_scores, strict=True)):
        tokens = sequence[-length:].tolist()
        plan = plans[b // per_row]
        logs = oracle.logits(model, plan, tokens)[len(plan.embeds) - 1 : -1].log_softmax(dim=-1)
        want = sum(logs[i, token] for i, token in enumerate(tokens)) / length
        check_close(score, want, f"score of beam {b}")


def check_forward(model: nn.Module, plans: Sequence[Plan], logits: Tensor) -> None:
    """A plain forward's logits, at the columns that go on, are those of the prompt made by hand."""
    for r, plan in enumerate(plans):
        check_close(logits[r, plan.columns], oracle.logits(model, plan), f"row {r}: logits")


def footprint(model: nn.Module) -> dict[str, tuple[object, ...]]:
    """All that hangs on a model: the names of each module's attributes and the number of its hooks of each kind."""
    found = {}
    for name, module in model.named_modules():
        hooks = {k: len(v) for k, v in vars(module).items() if "hook" in k and hasattr(v, "__len__")}
        found[name] = (type(module), sorted(vars(module)), sorted(hooks.items()))
    return found


def neighbourhood(model: nn.Module) -> dict[tuple[str, str], int]:
    """The identity of everything global that a wrap could touch: classes, the modules they live in, the environment."""
    classes = {cls for module in model.modules() for cls in type(module).__mro__ if cls is not object}
    places = {f"class {c.__module__}.{c.__qualname__}": dict(vars(c)) for c in classes}
    places |= {f"module {n}": dict(vars(sys.modules[n])) for n in {c.__module__ for c in classes}}
    found = {(place, name): id(value) for place, names in places.items() for name, value in names.items()}
    return found | {("environment", name): hash(value) for name, value in os.environ.items()}
