"""Images: the tokens that vLLM keeps and what it answers, beside the Hugging Face route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.vllm.engines import about, answers, asked, recorded
from vtc import reduced
from vtc.inference import asking
from vtc.inference.loading import load
from vtc.integrations.vllm import serving
from vtc.integrations.vllm.metrics import counters

MODELS = ("tiny-qwen", "tiny-llava", "tiny-internvl")
RECIPES = ("kcenter", "cls", "stride", "random", "todre", "maxsum", "kcenter-mean", "pool")
KEEPS = (1.0, 0.25, 0.1)
QUESTIONS = 10


@dataclass
class Routes:
    """One model by either route."""

    name: str
    model: Any
    processor: Any
    llm: Any

    @property
    def positions(self) -> str:
        """Where kept tokens stand in vLLM."""
        return "original" if self.name == "tiny-qwen" else "compact"


@pytest.fixture(scope="module", params=MODELS)
def routes(request, start):
    model, processor = load(request.param, dtype="float32")
    # The processor normalises: `random` draws from the values of the pixels, and raw bytes are others.
    settings = {"mm_device_do_normalize": False} if request.param == "tiny-qwen" else {}
    return Routes(request.param, model, processor, start(request.param, {"keep": 1.0}, **settings))


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_tokens_are_kept_and_the_same_answers_given(routes, recipe, keep, monkeypatch):
    wanted = {"recipe": recipe, "keep": keep}
    pairs = asked(QUESTIONS)
    expected = []
    with reduced(routes.model, recipe, keep=keep, positions=routes.positions) as model:
        for scene, question in pairs:
            inputs = asking.prompt(model, routes.processor, scene.image, question.question)
            answer = asking.answer(model, routes.processor, inputs, 8)
            report = model.vtc.report
            anchor = report.items[0].reduction.anchor.tolist()
            expected.append(
                (answer, report.prompt_after[0] if report.prompt_after else len(inputs["input_ids"][0]), anchor)
            )
    full, kept = (counter._value.get() for counter in counters())
    with recorded(monkeypatch, serving) as calls:
        found = answers(routes.llm, [about(routes.processor, s.image, q.question, wanted) for s, q in pairs])
    assert [out.outputs[0].text.strip() for out in found] == [answer for answer, _, _ in expected]
    assert [len(out.prompt_token_ids) for out in found] == [length for _, length, _ in expected]
    anchors = {tuple(item.reduction.anchor.tolist()) for items in calls for item in items}
    assert anchors == {tuple(anchor) for _, _, anchor in expected}
    after_full, after_kept = (counter._value.get() for counter in counters())
    lengths = [len(anchor) for _, _, anchor in expected]
    assert after_kept - kept == sum(lengths)
    assert after_full - full >= after_kept - kept
