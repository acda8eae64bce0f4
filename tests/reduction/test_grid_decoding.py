"""Ways of decoding that must give the same tokens do."""

from __future__ import annotations

import torch
from transformers.generation import LogitsProcessor

from tests import oracle
from tests.checks import check_close
from tests.families import placeholders
from tests.grid import (
    SEVERAL,
    UNEVEN,
    Case,
    every_case,
    every_family,
    fresh,
    generate,
    steps,
    stock,
)
from vtc import Recipe, reduce_tokens
from vtc.stages import Mean, Stride


class Heard:
    """A streamer that keeps the tokens."""

    def __init__(self) -> None:
        self.pieces: list[torch.Tensor] = []

    def put(self, value: torch.Tensor) -> None:
        self.pieces.append(value.flatten())

    def end(self) -> None:
        self.pieces.append(torch.empty(0, dtype=torch.int64))


@every_case
def test_greedy_one_beam_and_sampling_of_the_best_token_agree(case: Case):
    model, inputs = case.model(), case.family.inputs(UNEVEN)
    greedy = generate(model, inputs).sequences
    assert torch.equal(generate(model, inputs, num_beams=1).sequences, greedy)
    assert torch.equal(generate(model, inputs, do_sample=True, top_k=1).sequences, greedy)
    assert torch.equal(generate(model, inputs, use_cache=False).sequences, greedy)


@every_case
def test_a_stream_holds_what_is_returned(case: Case):
    model, inputs = case.model(), case.family.inputs(SEVERAL)
    heard = Heard()
    streamed = generate(model, inputs, streamer=heard).sequences
    assert torch.equal(torch.cat(heard.pieces), streamed[0])
    assert torch.equal(generate(model, inputs).sequences, streamed)


class Forced(LogitsProcessor):
    """Makes one token certain in the first two steps."""

    def __init__(self, token: int, length: int) -> None:
        self.token, self.length = token, length

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if ids.shape[1] < self.length + 2:
            scores = torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor(self.token), 0.0)
        return scores


@every_family
def test_a_generated_placeholder_is_a_token_like_any_other(family):
    recipe, inputs = Recipe((Stride(), Mean()), keep=0.3), family.inputs(UNEVEN)
    token = placeholders(stock(family))[-1]
    forced = Forced(token, inputs["input_ids"].shape[1])
    out = generate(reduce_tokens(fresh(family), recipe), inputs, logits_processor=[forced])
    assert (out.sequences[:, -4:-2] == token).all()
    for r, planned_cuts in enumerate(oracle.plans(stock(family), family, inputs, recipe)):
        want = oracle.logits(stock(family), planned_cuts, out.sequences[r, -4:-1].tolist())[-4:]
        check_close(steps(out)[r], want, f"row {r}: logits")
