"""Without `vtc` in its settings an engine is stock vLLM, and with keep 1.0 it gives what that gives."""

from __future__ import annotations

import pytest

from tests.vllm.engines import about, answers, asked
from vtc import embedded

MODELS = ("tiny-qwen", "tiny-llava", "tiny-internvl")


@pytest.mark.parametrize("name", MODELS)
def test_keep_all_gives_the_log_probabilities_of_stock_vllm(name, start):
    from transformers import AutoProcessor
    from vllm.model_executor.models.registry import ModelRegistry

    processor = AutoProcessor.from_pretrained(embedded.path(name))
    requests = [about(processor, scene.image, question.question) for scene, question in asked(10)]
    found = {}
    for kind, vtc in (("stock", None), ("ours", {"recipe": "kcenter", "keep": 1.0})):
        llm = start(name, vtc)
        found[kind] = [
            [{token: value.logprob for token, value in step.items()} for step in out.outputs[0].logprobs]
            for out in answers(llm, requests, logprobs=3)
        ]
    assert found["stock"] == found["ours"]
    assert any("vtc.integrations.vllm.models" in repr(model) for model in ModelRegistry.models.values())


def test_a_request_that_names_a_recipe_where_the_engine_has_none_is_refused(start):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(embedded.path("tiny-llava"))
    llm = start("tiny-llava", None)
    scene, question = asked(1)[0]
    with pytest.raises(ValueError, match=r"the engine runs without it; start it with --hf-overrides"):
        answers(llm, [about(processor, scene.image, question.question, {"keep": 0.5})])
    assert len(answers(llm, [about(processor, scene.image, question.question)])) == 1
