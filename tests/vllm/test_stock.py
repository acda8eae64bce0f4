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


@pytest.mark.parametrize("name", MODELS)
def test_a_worker_without_the_plugin_finds_no_pixels(name, start):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(embedded.path(name))
    llm = start(name, {"keep": 0.25})
    batches = []

    def watch(model):
        own = model.embed_multimodal

        def call(**kwargs):
            batches.append(dict(kwargs))
            return own(**kwargs)

        model.embed_multimodal = call

    llm.apply_model(watch)
    scene, question = asked(1)[0]
    answers(llm, [about(processor, scene.image, question.question)])

    def by_stock(model):
        """What the stock class makes of the items; vLLM ends an engine that gives other than one tensor an item."""
        stock = next(base for base in type(model).__mro__ if base.__module__.startswith("vllm."))
        return stock.embed_multimodal(model, **batches[0])

    assert len(batches) == 1
    assert llm.apply_model(by_stock) in ([[]], [()], [None])


def test_a_request_that_names_a_recipe_where_the_engine_has_none_is_refused(start):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(embedded.path("tiny-llava"))
    llm = start("tiny-llava", None)
    scene, question = asked(1)[0]
    with pytest.raises(ValueError, match=r"the engine runs without it; start it with --hf-overrides"):
        answers(llm, [about(processor, scene.image, question.question, {"keep": 0.5})])
    assert len(answers(llm, [about(processor, scene.image, question.question)])) == 1
