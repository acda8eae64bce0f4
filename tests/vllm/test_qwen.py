"""Qwen2-VL and Qwen3-VL, built from configs: kept tokens, positions and continuations beside the Hugging Face route."""

from __future__ import annotations

import pytest
import torch

from tests.vllm import qwen_checkpoints
from tests.vllm.engines import about, about_video, answers, asked, drawn_videos, first_layer_positions, recorded
from vtc import reduced
from vtc.inference import asking
from vtc.integrations.vllm import serving

RECIPES = ("kcenter", "stride", "todre", "kcenter-mean", "pool", "resize")
VIDEO_RECIPES = ("video", "kcenter", "dycoke", "evs")
LONGEST = 6


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen3_vl"])
def routes(request, start, tmp_path_factory):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = getattr(qwen_checkpoints, request.param)(tmp_path_factory.mktemp(request.param))
    llm = start(
        folder,
        {"keep": 1.0},
        limit_mm_per_prompt={"image": 2, "video": 1},
        mm_device_do_normalize=False,
        enable_prefix_caching=False,
    )
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(folder), llm, first_layer_positions(llm)


def by_transformers(model, processor, medium, question, recipe, keep):
    """The continuation by the Hugging Face route, the positions of its prompt, and what was kept."""
    seen = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    try:
        with reduced(model, recipe, keep=keep):
            inputs = asking.prompt(model, processor, medium, question)
            out = model.generate(**inputs, max_new_tokens=LONGEST, min_new_tokens=LONGEST, do_sample=False)
            anchor = model.vtc.report.items[0].reduction.anchor
    finally:
        handle.remove()
    return out[0, inputs["input_ids"].shape[1] :].tolist(), seen[0][-3:, 0], anchor.cpu()


def compared(routes, medium, question, request, recipe, keep, monkeypatch):
    """Both routes' continuations and positions of one request, once what they keep was found to be the same."""
    model, processor, llm, seen = routes
    expected, positions, anchor = by_transformers(model, processor, medium, question, recipe, keep)
    seen.clear()
    with recorded(monkeypatch, serving) as calls:
        (out,) = answers(llm, [request], LONGEST, min_tokens=LONGEST, ignore_eos=True)
    if calls:  # else the encoding was still there
        assert torch.equal(calls[0][0].reduction.anchor.cpu(), anchor)
    return list(out.outputs[0].token_ids), expected, seen[0], positions


@pytest.mark.parametrize("keep", [1.0, 0.25, 0.1])
@pytest.mark.parametrize("recipe", RECIPES)
def test_images_keep_the_same_tokens_at_the_same_positions(routes, recipe, keep, monkeypatch):
    for scene, question in asked(6)[::3]:
        request = about(routes[1], scene.image, question.question, {"recipe": recipe, "keep": keep})
        found, expected, seen, positions = compared(
            routes, scene.image, question.question, request, recipe, keep, monkeypatch
        )
        assert torch.equal(seen, positions)
        assert found == expected


@pytest.mark.parametrize("keep", [1.0, 0.25])
@pytest.mark.parametrize("recipe", VIDEO_RECIPES)
def test_videos_keep_the_same_tokens_at_the_same_positions(routes, recipe, keep, monkeypatch):
    for frames, questions in drawn_videos(2):
        question = questions[0].question
        request = about_video(routes[1], frames, question, {"recipe": recipe, "keep": keep})
        found, expected, seen, positions = compared(routes, frames, question, request, recipe, keep, monkeypatch)
        assert torch.equal(seen, positions)
        assert found == expected
