"""The cue `question`: the embeddings of the text beside an item, for stages that read it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tests.checks import check_same
from tests.families import visual
from tests.grid import (
    PROMPTS,
    every_family,
    fresh,
    generate,
    kept_by_row,
)
from vtc import Recipe, reduce_tokens
from vtc.stages import Mean, Selector
from vtc.stages.ops import top_k


@dataclass(frozen=True)
class Asked(Selector):
    """Top `k` by the dot product with the mean of the question, which is noted."""

    name = "asked"
    cues = ("question",)
    heard = []  # noqa: RUF012

    def select(self, tokens, pool, k, *, seed):
        question = tokens.cue("question")
        self.heard.append(question)
        return pool[top_k(tokens.features[pool].float() @ question.float().mean(dim=0), k)]


@every_family
def test_the_question_is_all_text_of_the_row_and_no_more(family):
    rows = PROMPTS["uneven"]
    model = reduce_tokens(fresh(family), Recipe((Asked(), Mean()), keep=0.3))
    for side in ("left", "right"):
        inputs = family.inputs(rows, side)
        Asked.heard.clear()
        with torch.no_grad():
            model(**inputs)
        heard = list(Asked.heard)
        text = ~visual(inputs["input_ids"], model) & inputs["attention_mask"].bool()
        embeddings = [
            model.get_input_embeddings()(ids[real]) for ids, real in zip(inputs["input_ids"], text, strict=True)
        ]
        for item in model.vtc.report.items:
            for unit in item.units:
                if 0 < unit.after < unit.before:
                    check_same(heard.pop(0), embeddings[item.row], "question")
        assert not heard


@every_family
def test_another_question_keeps_other_tokens_and_a_batch_keeps_those_of_its_rows(family):
    model = reduce_tokens(fresh(family), Recipe((Asked(),), keep=0.3))
    rows = [[3, (1, 12, 4), 4], [6, (1, 12, 4), 9]]
    generate(model, family.inputs(rows), tokens=1)
    together = kept_by_row(model, 2)
    assert together[0] != together[1]
    for row, want in zip(rows, together, strict=True):
        generate(model, family.inputs([row]), tokens=1)
        assert kept_by_row(model, 1) == [want]
