"""Without `vtc` in its settings an engine is vLLM without the plugin, and with keep 1.0 it gives what that gives."""

from __future__ import annotations

import pytest

from tests.vllm.engine_child import answered_apart, steps_of
from tests.vllm.engines import about, about_video, answers, asked, drawn_videos, nightly_but, processor_of

MODELS = ("tiny-qwen", "tiny-llava", "tiny-internvl", "qwen3_vl")
LONGEST = 6


@pytest.fixture(scope="module", params=nightly_but(MODELS, ("tiny-qwen", "tiny-llava")))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def requests(name, folders):
    """Such as stock vLLM takes."""
    processor = processor_of(folders(name))
    found = [about(processor, scene.image, question.question) for scene, question in asked(10)]
    for frames, questions in drawn_videos(1) if "qwen" in name else []:
        found.append({**about_video(processor, frames, questions[0].question, {}), "mm_processor_kwargs": {}})
    return found


@pytest.fixture(scope="module")
def settings(name):
    return {"limit_mm_per_prompt": {"image": 1, "video": 1}} if "qwen" in name else {}


@pytest.fixture(scope="module")
def stock(name, folders, start, requests, settings):
    """An engine with the plugin and without `vtc`, and its answers."""
    llm = start(folders(name), None, **settings)
    return llm, steps_of(answers(llm, requests, LONGEST, logprobs=3))


@pytest.fixture(scope="module")
def ours(name, folders, start, stock, settings):
    return start(folders(name), {"recipe": "kcenter", "keep": 1.0}, **settings)


def test_without_vtc_it_gives_the_log_probabilities_of_vllm_without_the_plugin(
    name, folders, stock, requests, settings, tmp_path
):
    from vllm.model_executor.models.registry import ModelRegistry

    alone = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_PLUGINS": ""}
    bare = answered_apart(tmp_path, folders(name), None, requests, alone, **settings)
    assert bare["module"].startswith("vllm.model_executor")
    assert stock[1] == bare["rounds"][0]
    assert any("vtc.integrations.vllm.models" in repr(model) for model in ModelRegistry.models.values())


def test_a_request_that_names_a_recipe_where_the_engine_has_none_is_refused(name, folders, stock):
    llm, _ = stock
    scene, question = asked(1)[0]
    with pytest.raises(ValueError, match=r"the engine runs without it; start it with --hf-overrides"):
        answers(llm, [about(processor_of(folders(name)), scene.image, question.question, {"keep": 0.5})])
    assert len(answers(llm, [about(processor_of(folders(name)), scene.image, question.question)])) == 1


def test_keep_all_gives_the_log_probabilities_of_stock_vllm(stock, ours, requests):
    assert steps_of(answers(ours, requests, LONGEST, logprobs=3)) == stock[1]


def test_a_worker_without_the_plugin_finds_no_pixels(name, folders, ours):
    batches = []

    def watch(model):
        own = model.embed_multimodal

        def call(**kwargs):
            batches.append(dict(kwargs))
            return own(**kwargs)

        model.embed_multimodal = call

    ours.apply_model(watch)
    scene, question = asked(1)[0]
    answers(ours, [about(processor_of(folders(name)), scene.image, question.question, {"keep": 0.25})])

    def by_stock(model):
        """What the stock class makes of the items; vLLM ends an engine that gives other than one tensor an item."""
        stock = next(base for base in type(model).__mro__ if base.__module__.startswith("vllm."))
        return stock.embed_multimodal(model, **batches[0])

    assert len(batches) == 1
    assert ours.apply_model(by_stock) in ([[]], [()], [None])
