"""Engines in processes of their own: without the plugin, in two processes, with a shared cache, compiled."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file, save_file

from tests.vllm import qwen_checkpoints
from tests.vllm.engine_child import answered_apart, steps_of
from tests.vllm.engines import about, about_video, answers, asked, drawn_videos
from tests.vllm.test_modes import alike
from vtc import embedded

TOGETHER = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
APART = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}
MEDIA = {"limit_mm_per_prompt": {"image": 1, "video": 1}}
KEEPS = (1.0, 0.25, 0.1)


def requests_of(processor, keeps=KEEPS, videos=True):
    """Images and videos, each by several keeps; None: a request that stock vLLM takes."""
    found = []
    for keep in keeps:
        vtc = None if keep is None else {"keep": keep}
        found += [about(processor, scene.image, question.question, vtc) for scene, question in asked(6)[::3]]
        for frames, questions in drawn_videos(1) if videos else []:
            request = about_video(processor, frames, questions[0].question, vtc)
            found.append(request if vtc else {**request, "mm_processor_kwargs": {}})
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints by their names; those of configs are written once."""
    made = {}

    def folder(name):
        if name.startswith("tiny-") and name != "tiny-llava":
            return name
        if name == "tiny-llava":
            made[name] = with_older_names(embedded.path(name), tmp_path_factory.mktemp(name))
        if name not in made:
            made[name] = getattr(qwen_checkpoints, name)(tmp_path_factory.mktemp(name))
        return made[name]

    return folder


def with_older_names(source, folder):
    """A checkpoint by the names of weights that vLLM knows without the plugin: those of transformers before 5.23."""
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    tower = "vision_tower."
    older = {
        name.replace(tower, f"{tower}vision_model.") if f"{tower}vision_model" not in name else name: value
        for name, value in weights.items()
    }
    save_file(older, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def processor_of(place):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(place if "/" in place else embedded.path(place))


@pytest.mark.parametrize("name", ["tiny-qwen", "tiny-llava", "tiny-internvl", "qwen3_vl"])
def test_the_plugin_without_vtc_and_keep_all_are_vllm_without_the_plugin(name, folders, start, tmp_path):
    place, videos = folders(name), "qwen" in name
    settings = MEDIA if videos else {}
    requests = requests_of(processor_of(place), keeps=(None,), videos=videos)
    bare = answered_apart(tmp_path, place, None, requests, {**TOGETHER, "VLLM_PLUGINS": ""}, **settings)
    assert bare["module"].startswith("vllm.model_executor")
    for vtc in (None, {"keep": 1.0}):
        llm = start(place, vtc, **settings)
        assert steps_of(answers(llm, requests, 6, logprobs=3)) == bare["rounds"][0]


@pytest.mark.parametrize(
    ("name", "environment", "settings"),
    [
        pytest.param("tiny-qwen", APART, {}, id="two-processes"),
        pytest.param("qwen3_vl", APART, {"mm_processor_cache_type": "shm"}, id="two-processes-and-shared-memory"),
        pytest.param("tiny-qwen", TOGETHER, {"enforce_eager": False}, id="compiled"),
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
