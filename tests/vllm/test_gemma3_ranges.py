"""Gemma 3: which tokens vLLM lets see each other, by the placeholders of a shortened prompt."""

from __future__ import annotations

from itertools import groupby
from types import SimpleNamespace

import pytest

from tests.vllm import checkpoints
from tests.vllm.routes import Route
from vtc.embedded.scene import Scene


@pytest.fixture(scope="module")
def route(tmp_path_factory):
    return Route.of(checkpoints.gemma3, tmp_path_factory.mktemp("gemma3"), **checkpoints.CROPS)


@pytest.fixture(scope="module")
def llm(route, start):
    return start(str(route.folder), {"keep": 1.0}, limit_mm_per_prompt={"image": 2})


@pytest.mark.parametrize(("keep", "due"), [(1.0, 16), (0.25, 4), (2, 2)])
def test_the_tokens_of_an_image_or_a_crop_and_no_others_see_each_other(route, llm, keep, due):
    from vllm.v1.worker.gpu.attn_utils import compute_mm_prefix_ranges

    images = [Scene(1).image.convert("RGB").resize(size) for size in ((60, 60), (200, 70))]
    seen: list = []
    real = llm.llm_engine.add_request
    llm.llm_engine.add_request = lambda *args, **kwargs: (seen.append(args[1]), real(*args, **kwargs))[1]
    try:
        llm.generate([route.request(images, "kcenter", keep)], use_tqdm=False)
    finally:
        del llm.llm_engine.add_request
    (request,) = seen
    ids, positions = request["prompt_token_ids"], request["mm_placeholders"]["image"]
    features = [SimpleNamespace(modality="image", mm_position=position) for position in positions]
    image = llm.model_config.hf_config.image_token_index
    places = [[at for at, _ in group] for same, group in groupby(enumerate(ids), lambda pair: pair[1] == image) if same]
    assert [len(run) for run in places] == [due] * 5  # the first image, the second, and three crops of it
    assert llm.model_config.is_mm_prefix_lm
    (ranges,) = compute_mm_prefix_ranges(["r"], {"r": features}, 48).values()
    assert ranges == [(run[0], run[-1]) for run in places]
