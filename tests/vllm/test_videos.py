"""Videos: kept tokens, positions and answers of vLLM beside the Hugging Face route."""

from __future__ import annotations

import pytest
import torch

from tests.vllm.engines import about_video, answers, drawn_videos, first_layer_positions, recorded
from vtc import embedded, reduced
from vtc.inference import asking
from vtc.inference.loading import load
from vtc.integrations.vllm import serving

RECIPES = ("video", "clip-budget", "kcenter", "dycoke", "evs-vllm", "vidcom2", "uniform")
KEEPS = (1.0, 0.25)
BEFORE = 4
"""Tokens of a prompt before its video."""


@pytest.fixture(scope="module")
def routes(start):
    model, processor = load("tiny-qwen", dtype="float32")
    llm = start(
        "tiny-qwen",
        {"recipe": "video", "keep": 1.0},
        limit_mm_per_prompt={"image": 1, "video": 1},
        mm_device_do_normalize=False,
        enable_prefix_caching=False,  # so that each prompt is read from its start
    )
    return model, processor, llm, first_layer_positions(llm)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_tokens_stand_at_the_same_positions(routes, recipe, keep, monkeypatch):
    model, processor, llm, seen = routes
    right = total = 0
    for frames, questions in drawn_videos(4):
        for number, question in enumerate(questions):
            with reduced(model, recipe, keep=keep):
                inputs = asking.prompt(model, processor, frames, question.question)
                answer, positions = answer_and_positions(model, processor, inputs)
                anchor = model.vtc.report.items[0].reduction.anchor
            seen.clear()
            with recorded(monkeypatch, serving) as calls:
                request = about_video(processor, frames, question.question, {"recipe": recipe, "keep": keep})
                (out,) = answers(llm, [request])
            assert len(calls) == (1 if number == 0 else 0), "an encoding is shared by the questions about it"
            if calls:
                assert torch.equal(calls[0][0].reduction.anchor, anchor.cpu())
            total, right = total + 1, right + (out.outputs[0].text.strip() == answer)
            text = tokens_behind_video(llm, out)
            assert torch.equal(seen[0][:, :-text], positions[:, :-text])
            assert torch.equal(seen[0][:, -text:], text_positions(text, *grid_of(model, inputs)))
    # Text behind a video stands elsewhere: see `text_positions`. It moves a near tie now and then.
    assert right >= total - 1


def tokens_behind_video(llm, out):
    """How many tokens of a prompt come behind its last placeholder."""
    token = llm.get_tokenizer().convert_tokens_to_ids("<|video_pad|>")
    return out.prompt_token_ids[::-1].index(token)


def grid_of(model, inputs):
    """The units of a video, the height and width of each in tokens, and by how much time grows from one to the next."""
    frames, height, width = inputs["video_grid_thw"][0].tolist()
    pace = float(inputs["second_per_grid_ts"][0]) * model.config.vision_config.tokens_per_second
    return frames, height // 2, width // 2, pace


def text_positions(text, frames, height, width, pace):
    """vLLM's rule: text goes on behind the largest of all positions; transformers leaves the first axis out of that."""
    first = BEFORE + max(int((frames - 1) * pace), height - 1, width - 1) + 1
    return torch.arange(first, first + text).expand(3, -1)


def answer_and_positions(model, processor, inputs):
    """The greedy answer by the Hugging Face route, and the (t, h, w) positions of its prompt."""
    seen = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    try:
        found = asking.answer(model, processor, inputs, 8)
    finally:
        handle.remove()
    return found, seen[0][-3:, 0]


def test_one_frame_is_a_video(routes):
    _, processor, llm, _ = routes
    (frames, questions), *_ = drawn_videos(1, frames=1)
    request = about_video(processor, frames, questions[0].question, {"recipe": "kcenter", "keep": 0.25})
    (out,) = answers(llm, [request])
    assert out.prompt_token_ids.count(llm.get_tokenizer().convert_tokens_to_ids("<|video_pad|>")) == 9


def test_an_engine_that_prunes_videos_itself_is_refused_before_weights_are_read(start, tmp_path):
    for path in embedded.path("tiny-qwen").iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"video_pruning_rate=0\.5 prunes the same videos as vtc; use one of them"):
        start(str(tmp_path), {"keep": 0.5}, video_pruning_rate=0.5)
