"""Qwen3.5, built from configs: kept tokens and positions beside the Hugging Face route.

vLLM's linear attention on a CPU takes bfloat16 alone, in which two routes round differently: what is compared are
recipes that do not look at features, and how likely a continuation is about.
"""

from __future__ import annotations

import pytest
import torch

from tests.vllm import qwen_checkpoints
from tests.vllm.engines import (
    about,
    about_video,
    answers,
    asked,
    drawn_videos,
    first_layer_positions,
    nightly_but,
    recorded,
)
from tests.vllm.routes import forget
from tests.vllm.test_qwen import by_transformers
from vtc.integrations.vllm import serving

CLOSE = 0.1


@pytest.fixture(scope="module", params=nightly_but(("dense", "experts"), ("dense",)))
def routes(request, start, tmp_path_factory):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = qwen_checkpoints.qwen35(tmp_path_factory.mktemp("qwen35"), experts=request.param == "experts")
    llm = start(
        folder,
        {"keep": 1.0},
        limit_mm_per_prompt={"image": 2, "video": 1},
        mm_device_do_normalize=False,
        enable_prefix_caching=False,
        dtype="bfloat16",
    )
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).eval()
    return model, AutoProcessor.from_pretrained(folder), llm, first_layer_positions(llm)


def compare(routes, medium, question, request, recipe, keep, monkeypatch):
    """Hold both routes to the same kept tokens and positions, and to about the same continuation."""
    model, processor, llm, seen = routes
    expected, positions, anchor = by_transformers(model, processor, medium, question, recipe, keep)
    forget(llm)
    seen.clear()
    with recorded(monkeypatch, serving) as calls:
        (out,) = answers(llm, [request], 1, logprobs=5)
    assert torch.equal(calls[0][0].reduction.anchor.cpu(), anchor)
    assert torch.equal(seen[0], positions)
    likely = out.outputs[0].logprobs[0]
    best = max(value.logprob for value in likely.values())
    assert expected[0] in likely
    assert likely[expected[0]].logprob > best - CLOSE


@pytest.mark.parametrize("keep", [1.0, 0.25])
@pytest.mark.parametrize("recipe", ["stride", "pool", "resize"])
def test_images_keep_the_same_tokens_at_the_same_positions(routes, recipe, keep, monkeypatch):
    for scene, question in asked(6)[::3]:
        request = about(routes[1], scene.image, question.question, {"recipe": recipe, "keep": keep})
        compare(routes, scene.image, question.question, request, recipe, keep, monkeypatch)


@pytest.mark.parametrize("recipe", ["stride", "uniform"])
def test_videos_keep_the_same_tokens_at_the_same_positions(routes, recipe, monkeypatch):
    for frames, questions in drawn_videos(2):
        question = questions[0].question
        request = about_video(routes[1], frames, question, {"recipe": recipe, "keep": 0.25})
        compare(routes, frames, question, request, recipe, 0.25, monkeypatch)
