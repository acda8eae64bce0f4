"""Every class that is served, checked on a small model: by `vtc check`, and by a prompt shortened by hand."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.sweep.table import ROWS, SWEPT, label
from vtc.adapters import find
from vtc.check.context import CheckContext, CheckPrompt
from vtc.check.runner import check, recipes, runnable

every_class = pytest.mark.parametrize("odd", SWEPT, ids=label)
every_model = pytest.mark.parametrize("odd", [odd for odd in SWEPT if odd.kind == "image"], ids=label)
UNCOUNTED = (
    "Dots3Note",
    "Ernie4_5_VLMoe",
    "Gemma3n",
    "Glm5Next",
    "HYV4VL",
    "Lfm3Vl",
    "MiniCPMOcr",
    "MiniCPMV4_6",
    "MiniCPMV4_7",
    "MistralLarge4",
    "Qwen4Exp",
)
"""Models with states, an indexer of keys, or two sets of experts of which a token meets one."""


def prompts(odd) -> list[CheckPrompt]:
    """One image, two, and both in a batch padded on the left."""
    two, one = (odd.inputs([row]) for row in ROWS)
    batch = CheckPrompt("batch", odd.inputs(ROWS), (two, one), odd.inputs(ROWS[::-1]), (1, 0))
    return [CheckPrompt("one image", one), CheckPrompt("two images", two), batch]


@every_class
def test_every_invariant_holds(odd):
    """Selection, merging and cuts inside the decoder, where it takes them; prefill and each decoded step, two turns."""
    model = odd.build()
    able, _ = runnable(model, recipes(["kcenter", "kcenter-mean", "layerwise", "fastv"], positions="original"))
    able += recipes(["kcenter"], positions="compact")
    result = check(CheckContext(model, prompts(odd), able, 3))
    assert [row.failures for row in result.rows if row.holds is False] == []
    assert result.holds


@every_model
def test_flops_equal_a_measured_count(odd):
    model = odd.build()
    model.set_experts_implementation("eager")  # the counter does not know grouped products
    decoder, counter = find(model).decoder, FlopCounterMode(display=False)
    with counter, torch.no_grad():
        decoder(inputs_embeds=model.get_input_embeddings()(torch.arange(3, 23))[None])
    by_layer = [ops for name, ops in counter.get_flop_counts().items() if ".layers." in name and name.count(".") == 2]
    counted = find(model).cost().prefill_flops(20) == sum(sum(ops.values()) for ops in by_layer)
    assert counted is (label(odd) not in UNCOUNTED)
