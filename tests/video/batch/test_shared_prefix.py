"""A forked prefix answers as whole prompts do, for random models of each family."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.families import FAMILIES, text
from vtc.reduction.api import reduced
from vtc.video.batch.prompts import Prompts
from vtc.video.batch.shared_prefix import (
    Prefix,
    ask_whole,
    go_on,
    read_prefix,
)


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
    tails = tuple(torch.tensor(text(n, 7 + n)) for n in (4, 4, 2, 6))
    prompts = Prompts(inputs, inputs["input_ids"].shape[1] - 5, tails)
    with reduced(model, "kcenter", keep=0.25):
        prefix = read_prefix(model, prompts)

        def forked(*chosen):
            return go_on(model, processor, prompts, prefix, list(chosen), 5).texts

        whole = [ask_whole(model, processor, prompts, i, 5)[0].texts[0] for i in range(4)]
        assert [forked(i)[0] for i in range(4)] == whole
        count = prefix.batch_size([len(tail) for tail in tails], 5)
        assert count == {"full": 4, "sliding": 2, "linear": 1}[family.layers]
        assert forked(*range(count)) == whole[:count]
        if family.layers == "sliding":  # the reason: padding counts as tokens that were seen
            assert forked(0, 1, 2, 3) != whole


def test_a_window_that_does_not_slide_lets_padding_in():
    layers = [SimpleNamespace(batch_repeat_interleave=None, is_sliding=True, sliding_window=20)]
    prefix = Prefix(SimpleNamespace(layers=layers, get_seq_length=lambda: 10), None)
    assert [prefix.batch_size([3, 3, 4, 3], longest) for longest in (6, 7)] == [4, 2]
