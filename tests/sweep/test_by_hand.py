"""Every class that is served, beside a prompt shortened by hand and encoded by the stock model."""

from __future__ import annotations

import copy
from inspect import signature

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from tests.checks import check_close
from tests.families import IMAGE, VIDEO
from tests.grid import kept
from tests.sweep.table import ROWS, SWEPT, label
from vtc import Recipe, reduce_tokens
from vtc.adapters import find
from vtc.stages import Stride

HALF = Recipe((Stride(),), keep=0.4)
OWN_OUTPUT = ("Fuyu", "GraniteDocling", "Ovis2")
"""Models that are handed encoded images in a form of their own; `vtc check` sees what becomes of them."""
BY_HAND = [odd for odd in SWEPT if not label(odd).startswith(OWN_OUTPUT)]
every_class = pytest.mark.parametrize("odd", BY_HAND, ids=label)


def features(model: nn.Module, inputs: dict, kind: str) -> BaseModelOutputWithPooling:
    name = f"get_{kind}_features"
    encode = getattr(model.base_model, name, None) or getattr(model, name)
    given = {name: inputs[name] for name in signature(encode).parameters if name in inputs}
    return encode(**given, return_dict=True)


def check_like(got: torch.Tensor, want: torch.Tensor, what: str) -> None:
    """Equal to 1e-5 of the largest logit: experts and narrow norms cost a digit, in the stock model too."""
    scale = want.abs().max().clamp_min(1.0)
    check_close(got / scale, want / scale, what)


def shortened_by_hand(
    model: nn.Module, inputs: dict, anchors: list[list[int]], sizes: list[int], kind: str = "image"
) -> tuple[dict, list]:
    """The stock model's arguments for a single row whose items keep `anchors`, and the columns that go on."""
    output = features(model, inputs, kind)
    pooled = output.pooler_output
    rows = torch.cat([part.reshape(-1, part.shape[-1]) for part in pooled])
    token = VIDEO if VIDEO in inputs["input_ids"] else IMAGE
    places = torch.nonzero(inputs["input_ids"][0] == token).flatten().tolist()
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    stays = [start + a for start, anchor in zip(starts, anchors, strict=True) for a in anchor]
    gone = {column for i, column in enumerate(places) if i not in stays}
    columns = [c for c in range(inputs["input_ids"].shape[1]) if c not in gone]
    known = {name: value for name, value in inputs.items() if name != "input_ids"}
    positions = model._prepare_position_ids_for_generation(inputs["input_ids"], known)[..., columns]
    if len(positions) == 4:  # the first row counts text
        positions = torch.cat([torch.arange(len(columns))[None, None].to(positions), positions[1:]])
    chosen = rows[stays][None] if isinstance(pooled, torch.Tensor) else [rows[stays]]
    out = {
        name: inputs[name][:, columns]
        for name in ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")
        if name in inputs
    }
    encoded = BaseModelOutputWithPooling(pooler_output=chosen)
    if getattr(output, "deepstack_features", None) is not None:
        planes = [[torch.cat([*plane])[stays]] for plane in output.deepstack_features]
        encoded = BaseModelOutputWithDeepstackFeatures(pooler_output=chosen, deepstack_features=planes)
    return {**out, "position_ids": positions, "mm_encoder_outputs": {kind: encoded}}, columns


@every_class
@torch.no_grad()
def test_counts_are_exact_and_a_batch_equals_its_singles_made_by_hand(odd):
    model, inputs = odd.build(), odd.inputs(ROWS)
    bare = copy.deepcopy(model)
    reduce_tokens(model, HALF)
    declared, batch = model.vtc.count(**inputs), model(**inputs).logits
    items = model.vtc.report.items
    assert [item.after + item.structural for item in items] == declared
    assert all(0 < item.after < item.before for item in items)
    if odd.grid:
        assert {item.layout.grids for item in items} == {(odd.grid,)}
    for r, row in enumerate(ROWS):
        single = odd.inputs([row])
        alone = model(**single).logits[0]
        assert kept(model) == [item.reduction.anchor.tolist() for item in items if item.row == r]
        check_like(batch[r][inputs["attention_mask"][r].bool()], alone, "logits of a single")
        sizes = [len(item.layout) for item in items if item.row == r]
        given, columns = shortened_by_hand(bare, single, kept(model), sizes, odd.kind)
        check_like(alone[columns], bare(**given).logits[0], "logits of the prompt made by hand")


# The 16 codes of the small Chameleon do not tell neighbouring tokens apart.
@pytest.mark.parametrize("odd", [odd for odd in BY_HAND if label(odd) != "Chameleon"], ids=label)
@torch.no_grad()
def test_other_tokens_are_found(odd):
    """A control: the prompt made by hand with one other token has other logits."""
    model, inputs = odd.build(), odd.inputs(ROWS[1:])
    bare = copy.deepcopy(model)
    got = reduce_tokens(model, HALF)(**inputs).logits[0]
    anchors, sizes = kept(model), [len(item.layout) for item in model.vtc.report.items]
    free = (~model.vtc.report.items[0].layout.structural).nonzero().flatten().tolist()
    first = next(i for i in anchors[0] if i in free)
    anchors[0] = sorted({*anchors[0], next(i for i in free if i not in anchors[0])} - {first})
    given, columns = shortened_by_hand(bare, inputs, anchors, sizes, odd.kind)
    with pytest.raises(AssertionError):
        check_like(got[columns], bare(**given).logits[0], "logits")


@every_class
def test_content_not_company_makes_the_key(odd):
    model = odd.build()
    adapter = find(model)
    batch = [media.key for media in adapter.media(odd.inputs(ROWS))]
    singles = [media.key for row in ROWS for media in adapter.media(odd.inputs([row]))]
    assert batch == singles
    assert len(set(batch)) == len(batch)
