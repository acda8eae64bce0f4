"""Engines in processes of their own: in two processes, with a shared cache, compiled."""

from __future__ import annotations

import pytest

from tests.vllm.engine_child import answered_apart, steps_of
from tests.vllm.engines import about, about_video, answers, asked, drawn_videos, processor_of
from tests.vllm.test_modes import alike

TOGETHER = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
APART = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}
MEDIA = {"limit_mm_per_prompt": {"image": 1, "video": 1}}
KEEPS = (1.0, 0.25, 0.1)


def requests_of(processor):
    """Images and videos, each by several keeps."""
    found = []
    for keep in KEEPS:
        found += [about(processor, scene.image, question.question, {"keep": keep}) for scene, question in asked(6)[::3]]
        found += [about_video(processor, f, questions[0].question, {"keep": keep}) for f, questions in drawn_videos(1)]
    return found


@pytest.mark.parametrize(
    ("name", "environment", "settings"),
    [
        pytest.param("tiny-qwen", APART, {}, id="two-processes", marks=pytest.mark.nightly),
        pytest.param("qwen3_vl", APART, {"mm_processor_cache_type": "shm"}, id="two-processes-and-shared-memory"),
        pytest.param("tiny-qwen", TOGETHER, {"enforce_eager": False}, id="compiled", marks=pytest.mark.nightly),
        pytest.param("qwen3_vl", TOGETHER, {"enforce_eager": False}, id="compiled-with-deepstack"),
    ],
)
def test_answers_are_those_of_one_process(name, environment, settings, folders, start, tmp_path):
    place = folders(name)
    requests = requests_of(processor_of(place))
    llm = start(place, {"keep": 1.0}, **MEDIA)
    outputs = answers(llm, requests, 6, logprobs=3)
    found = answered_apart(tmp_path, place, {"keep": 1.0}, requests, environment, **{**MEDIA, **settings})
    assert found["module"] == "vtc.integrations.vllm.models"
    assert found["lengths"] == [len(output.prompt_token_ids) for output in outputs]
    for steps in found["rounds"]:
        assert alike(steps, steps_of(outputs))


def test_an_item_with_a_name_of_its_own_is_told_apart_by_its_keep(start):
    processor = processor_of("tiny-llava")
    llm = start("tiny-llava", {"keep": 0.25})
    scene, question = asked(1)[0]
    for _ in range(2):
        for keep in KEEPS:
            request = about(processor, scene.image, question.question, {"keep": keep})
            plain, named = answers(llm, [request, {**request, "multi_modal_uuids": {"image": ["the same"]}}])
            assert named.prompt_token_ids == plain.prompt_token_ids
            assert named.outputs[0].token_ids == plain.outputs[0].token_ids
