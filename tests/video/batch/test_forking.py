"""A forked prefix answers as whole prompts do, for random models of each family."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.families import FAMILIES, text
from vtc.video.batch.forking import ask_whole, go_on, read_prefix
from vtc.video.batch.prompts import Prompts
from vtc.wrap import reduced


class Numbers:
    """A tokenizer whose texts are the ids."""

    pad_token_id = None
    eos_token_id = 0

    def batch_decode(self, rows, skip_special_tokens):
        return [" ".join(map(str, row.tolist())) for row in rows]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_uneven_questions_from_one_prefix(family):
    model, processor = family.build().eval(), SimpleNamespace(tokenizer=Numbers())
    model.generation_config.eos_token_id = None
    inputs = family.inputs([[3, (1,), 5]])
    tails = tuple(torch.tensor(text(n, 7 + n)) for n in (4, 2, 6))
    prompts = Prompts(inputs, inputs["input_ids"].shape[1] - 5, tails)
    with reduced(model, "kcenter", keep=0.25):
        prefix = read_prefix(model, prompts)
        whole = [ask_whole(model, processor, prompts, i, 5)[0].texts[0] for i in range(3)]
        assert [go_on(model, processor, prompts, prefix, [i], 5).texts[0] for i in range(3)] == whole
        assert prefix.repeatable == (family.layers != "linear")
        if prefix.repeatable:
            assert go_on(model, processor, prompts, prefix, [0, 1, 2], 5).texts == whole
