"""The same answers however the engine schedules: batches, prefix cache, chunks, preemption."""

from __future__ import annotations

import pytest

from tests.vllm.engines import answers, asked, nightly_but, text_of
from vtc import embedded

MODELS = ("tiny-qwen", "tiny-llava", "tiny-internvl")
PLAIN = {"enable_prefix_caching": False, "max_num_seqs": 1}
CHUNKS = {"enable_chunked_prefill": True, "max_num_batched_tokens": 24}
CACHE = {"enable_prefix_caching": True, "block_size": 32}
MODES = {
    "batch": {"enable_prefix_caching": False, "max_num_seqs": 16},
    "prefix": {**CACHE, "max_num_seqs": 16},
    "chunks": {**CHUNKS, "enable_prefix_caching": False},
    "prefix and chunks": {**CACHE, **CHUNKS},
    "preemption": {
        "enable_prefix_caching": False,
        "block_size": 32,
        "num_gpu_blocks_override": 14,
        "max_num_seqs": 16,
        "max_model_len": 320,
    },
}
RECIPES = (
    ("kcenter", 0.25),
    ("kcenter", 0.1),
    ("stride", 0.25),
    ("cls", 0.25),
    ("todre", 0.5),
    ("kcenter-mean", 9),
    None,
)


def requests_of(name):
    """Requests of unlike sizes and recipes, some with two images, some alike but for the recipe."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(embedded.path(name))
    pairs = asked(40)[::5]
    found = []
    for number, (scene, question) in enumerate(pairs):
        image = scene.image
        if number % 3 == 1:
            image = image.resize((224, 224) if name == "tiny-llava" else (240, 120))
        if number % 3 == 2 and name != "tiny-llava":
            image = image.resize((112, 300))
        for recipe in RECIPES:
            own = {} if recipe is None else {"mm_processor_kwargs": {"vtc": {"recipe": recipe[0], "keep": recipe[1]}}}
            text = text_of(processor, ["image"], question.question)
            found.append({"prompt": text, "multi_modal_data": {"image": [image]}, **own})
        both = text_of(processor, ["image", "image"], question.question)
        other = pairs[(number + 1) % len(pairs)][0].image
        quarter = {"mm_processor_kwargs": {"vtc": {"keep": 0.25}}}
        found.append({"prompt": both, "multi_modal_data": {"image": [image, other]}, **quarter})
    return found


def logprobs(outs):
    """What decides an answer: each step's three likeliest tokens."""
    return [[{t: v.logprob for t, v in step.items()} for step in out.outputs[0].logprobs[:6]] for out in outs]


def alike(found, expected):
    """Return whether the same tokens were taken, from log-probabilities that rounding alone tells apart."""
    for steps, others in zip(found, expected, strict=True):
        for step, other in zip(steps, others, strict=True):
            if next(iter(step)) != next(iter(other)):
                return False
            if max(abs(step[token] - other[token]) for token in step if token in other) > 1e-4:
                return False
    return True


def run(llm, requests, longest=6):
    """Answers of `longest` tokens, none shorter."""
    return answers(llm, requests, longest, min_tokens=longest, ignore_eos=longest > 6, logprobs=3)


@pytest.fixture(scope="module", params=nightly_but(MODELS, ("tiny-qwen", "tiny-llava")))  # M-RoPE, and without
def plain(request, start):
    requests = requests_of(request.param)
    llm = start(request.param, {"keep": 1.0}, **PLAIN)
    return request.param, requests, logprobs(run(llm, requests))


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_of_scheduling_changes_no_answer(plain, start, mode):
    name, requests, expected = plain
    llm = start(name, {"keep": 1.0}, **MODES[mode], disable_log_stats=False)
    longest = 40 if mode == "preemption" else 6
    for _ in range(2 if "prefix" in mode else 1):
        outs = run(llm, requests, longest)
        assert alike(logprobs(outs), expected)
    counted = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}
    if "prefix" in mode:
        assert sum(out.num_cached_tokens or 0 for out in outs) > 1000
    if mode == "preemption":
        assert counted["vllm:num_preemptions"] > 10


def test_a_difference_would_be_seen(plain):
    _, _, expected = plain
    assert not alike(expected[:8], expected[1:9])
