"""Videos of LLaVA-OneVision: what vLLM keeps of their frames and answers, beside the Hugging Face route."""

from __future__ import annotations

import pytest

from tests.vllm import checkpoints
from tests.vllm.engines import drawn_videos, recorded
from tests.vllm.routes import Answer, Route, assert_alike, forget, said
from vtc.integrations.vllm import serving

RECIPES = ("kcenter", "cls", "random", "pool", "uniform", "evs", "clip-budget", "fastvid", "vidcom2")


@pytest.fixture(scope="module")
def route(tmp_path_factory):
    return Route.of(checkpoints.llava_onevision, tmp_path_factory.mktemp("onevision"))


@pytest.fixture(scope="module")
def videos():
    """Two of unlike length."""
    return [frames.pixels[:count] for count in (8, 5) for frames, _ in drawn_videos(1, count)]


@pytest.fixture(scope="module")
def stock(route, videos, start):
    """What stock vLLM says to each; to both at once it says nothing, since it fails where lengths are unlike."""
    llm = start(str(route.folder), None, limit_mm_per_prompt={"video": 2})
    return [Answer.of(*said(llm, [route.request([video], None, 1.0, "video")]), []) for video in videos]


@pytest.fixture(scope="module")
def llm(route, stock, start):
    return start(str(route.folder), {"keep": 1.0}, limit_mm_per_prompt={"video": 2})


def test_keep_all_is_stock_vllm(route, stock, videos, llm):
    requests = [route.request([video], "kcenter", 1.0, "video") for video in videos]
    assert [Answer.of(*said(llm, [request]), []) for request in requests] == stock


@pytest.mark.parametrize("keep", [1.0, 0.25, 0.1])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_tokens_are_kept_and_the_same_said(route, videos, llm, recipe, keep, monkeypatch):
    for video in videos:
        request = route.request([video], recipe, keep, "video")
        assert_alike(llm, request, route.answer(request, recipe, keep), monkeypatch)


def test_videos_of_unlike_length_in_one_prompt_keep_what_each_keeps_alone(route, videos, llm, monkeypatch):
    alone = [route.answer(route.request([v], "cls", 0.25, "video"), "cls", 0.25).kept for v in videos]
    forget(llm)
    with recorded(monkeypatch, serving) as calls:
        said(llm, [route.request(videos, "cls", 0.25, "video")])
    found = [item.reduction.anchor.tolist() for items in calls for item in items]
    assert found == [kept for items in alone for kept in items]
