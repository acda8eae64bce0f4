"""Ways of decoding: each gives what greedy decoding gives, or draws what the masked run draws."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from tests import oracle
from tests.checks import check_close
from tests.families import placeholders
from tests.grid import (
    fresh,
    generate,
    steps,
    stock,
)
from tests.names import CACHE
from tests.reduction.decoder.common import (
    BATCHES,
    every_schedule,
    four,
    recipe,
    told,
    wrapped,
)

ONE = BATCHES["one"]
TOKENS = 10


def same_answer(family: Any, schedule: str, batch: Any, **options: Any) -> None:
    """Greedy decoding with `options` gives the same tokens as without."""
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(batch)
    want = generate(model, inputs, tokens=TOKENS).sequences
    assert generate(model, inputs, tokens=TOKENS, **options).sequences.tolist() == want.tolist()


@every_schedule
@four
def test_assisted_by_another_model(family, schedule, caplog):
    caplog.set_level(logging.ERROR, "transformers")  # which uses what it deprecates when it assists
    assistant = fresh(family)
    with torch.no_grad():
        assistant.lm_head.weight += 0.02 * torch.randn(assistant.lm_head.weight.shape)
    same_answer(family, schedule, ONE, assistant_model=assistant)


@pytest.mark.parametrize("returned", [1, 3])
@every_schedule
@four
def test_sampling_draws_what_the_masked_run_draws(family, schedule, returned):
    model, inputs = wrapped(family, recipe(schedule)), family.inputs(BATCHES["uneven"])
    torch.manual_seed(1)
    out = generate(model, inputs, do_sample=True, top_k=0, temperature=0.7, num_return_sequences=returned)
    tokens = out.sequences[:, -4:]
    plans = [planned_cuts for planned_cuts in told(model, family, inputs) for _ in range(returned)]
    bare = stock(family)
    torch.manual_seed(1)
    for t in range(4):
        rows = [oracle.logits(bare, p, tokens[b, :t].tolist())[-1] for b, p in enumerate(plans)]
        check_close(torch.stack(rows), out.logits[t], f"step {t}")
        drawn = torch.multinomial((torch.stack(rows) / 0.7).softmax(dim=-1), num_samples=1)
        assert drawn[:, 0].tolist() == tokens[:, t].tolist()


@every_schedule
@four
def test_a_batch_equals_its_rows_in_any_order(family, schedule):
    rows = BATCHES["uneven"]
    model = wrapped(family, recipe(schedule))
    together = steps(generate(model, family.inputs(rows)))
    turned = steps(generate(model, family.inputs([rows[2], rows[0], rows[1]])))
    check_close(turned, together[[2, 0, 1]], "a permuted batch")
    for r, row in enumerate(rows):
        check_close(steps(generate(model, family.inputs([row])))[0], together[r], f"row {r} alone")


@four
@torch.no_grad()
def test_a_generated_placeholder_is_text(family):
    model, inputs = wrapped(family, recipe("pyramid")), family.inputs(ONE)
    cache = model(**inputs, use_cache=True)[CACHE]
    plans = told(model, family, inputs)
    token = placeholders(model)[0]
    mask = torch.ones(1, inputs["input_ids"].shape[1] + 1, dtype=torch.int64)
    given = {"input_ids": torch.tensor([[token]]), "attention_mask": mask, CACHE: cache}
    if "mm_token_type_ids" in inputs:
        given["mm_token_type_ids"] = torch.zeros(1, 1, dtype=torch.int32)
    logits = model(**given).logits
    check_close(logits[0, -1], oracle.logits(stock(family), plans[0], [token])[-1], "logits")
