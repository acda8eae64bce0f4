"""Attention that reads position ids (Ministral 3 scales queries by them), beside the stock model with masked keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checks import check_close, footprint
from tests.families import visual
from tests.families.mistral3 import MINISTRAL3
from tests.grid import generate, steps
from tests.reduction.decoder.common import ByLot
from vtc import Recipe, reduce_tokens
from vtc.reduction.decoder.prefill_state import PrefillState
from vtc.stages import FastV, PyramidDrop

ROWS = [[3, (1, 12, 8), 4], [2, (3, 8, 12), 6]]
STAGES = (ByLot(((0, 0.7), (1, 0.4))), FastV(((1, 0.5),)), PyramidDrop(((1, 0.5), (2, 0.2))))


@torch.no_grad()
def masked(inputs: Any, kept: dict[int, Any], new: Tensor) -> Tensor:
    """The stock model's logits at the end of `inputs` and of each token of `new`, `[B, 1 + t, V]`."""
    model = MINISTRAL3.build("eager")
    places = [torch.nonzero(row).flatten() for row in visual(inputs["input_ids"], model)]
    for i, layer in enumerate(model.get_decoder().layers):
        at = max((cut for cut in kept if cut <= i), default=None)
        gone = [[] if at is None else [p for n, p in enumerate(places[r]) if n not in kept[at][r]] for r in range(2)]
        layer.register_forward_pre_hook(lambda _, args, kwargs, gone=gone: hide(kwargs, gone), with_kwargs=True)
    ids = torch.cat([inputs["input_ids"], new], dim=1)
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(new)], dim=1)
    at = {"attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp_min(0)}
    return model(**{**inputs, "input_ids": ids, **at}).logits[:, -1 - new.shape[1] :]


def hide(kwargs: Any, gone: Any) -> None:
    mask = kwargs["attention_mask"].clone()
    for r, columns in enumerate(gone):
        mask[r, :, :, columns] = torch.finfo(mask.dtype).min
    kwargs["attention_mask"] = mask


def off(stage: Any) -> tuple[Tensor, Tensor]:
    """The steps of a wrapped model, and those of the masked run."""
    inputs = MINISTRAL3.inputs(ROWS)
    model = reduce_tokens(MINISTRAL3.build(), Recipe((stage,)))
    out = generate(model, inputs, tokens=3)
    trace = model.vtc.report.decoder
    kept = {layer: [set(one.tolist()) for one in found] for layer, found in trace.kept.items()}
    return steps(out), masked(inputs, kept, out.sequences[:, -3:-1])


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_steps_are_those_of_the_masked_run(stage):
    got, want = off(stage)
    check_close(got, want, "logits")


def test_ids_of_other_columns_are_another_answer(monkeypatch):
    """A control."""
    monkeypatch.setattr(
        PrefillState, "remaining_position_ids", lambda self, ids: ids[..., : len(self.columns(ids.device)[0])]
    )
    got, want = off(STAGES[0])
    assert float((got - want).abs().max()) > 1e-3


@pytest.mark.parametrize("recipe", ["kcenter", "layerwise"])
def test_flash_attention_is_refused(recipe):
    model = MINISTRAL3.build()
    model.get_decoder().config._attn_implementation_internal = "flash_rows"
    before = footprint(model)
    with pytest.raises(ValueError, match=r"'flash_rows': Ministral3Attention needs position ids.*'sdpa' or 'eager'"):
        reduce_tokens(model, recipe)
    assert footprint(model) == before
