"""What each recipe of videos takes: milliseconds of looking, choosing, reading, encoding, deciding and merging.

A Qwen2.5-VL with random weights takes 32 frames of a panning video with cuts: 16 units of 196 tokens, 1,024 wide. The
first three columns are of a file of 16 s (`vtc.video.prepare`), the others from the report of a call. The language
model is small: what it saves follows from the number of tokens, which is the same for all.

`pytest tests/benchmarks/test_video_recipes_speed.py --benchmark-only -m slow -s` prints the table, medians of three.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLVideoProcessor

from tests.video.videos import write
from vtc import named_recipes, reduce_tokens
from vtc.inference.loading import load
from vtc.recipes.named import recipe
from vtc.video import prepare

SIDE, FRAMES, START, END, VIDEO = 392, 32, 90, 91, 92
NAMES = ["kcenter", *(named.name for named in named_recipes() if named.is_video_recipe)]


def scene(seed: int) -> np.ndarray:
    """An image larger than the video, over which it pans."""
    rough = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    return rough.repeat(40, axis=0).repeat(40, axis=1)


def pan(frames: int, shot: int):
    """Frames `[720, 720, 3]` that move over one scene after the other."""
    for at in range(frames):
        wide, left = scene(at // shot), at % shot
        yield np.ascontiguousarray(wide[left : left + 720, left : left + 720])


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "pan.mp4", pan(480, 70), fps=30, gop=60, b_frames=2)


@pytest.fixture(scope="module")
def model():
    vision = dict(
        depth=4,
        num_heads=6,
        hidden_size=384,
        intermediate_size=1024,
        patch_size=14,
        spatial_merge_size=2,
        temporal_patch_size=2,
        out_hidden_size=1024,
        window_size=112,
        fullatt_block_indexes=[3],
    )
    text = dict(
        vocab_size=128,
        bos_token_id=1,
        eos_token_id=2,
        hidden_size=1024,
        intermediate_size=1024,
        num_hidden_layers=1,
        num_attention_heads=8,
        num_key_value_heads=8,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, mrope_section=[16, 24, 24]),
    )
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=89,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
    )
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def inputs():
    small = np.stack([frame[:SIDE, :SIDE] for frame in pan(FRAMES, 5)])
    made = Qwen2VLVideoProcessor(patch_size=14, cap_pixels_per_frame=False)(
        videos=[small], do_resize=False, do_sample_frames=False, return_tensors="pt"
    )
    grid = made["video_grid_thw"]
    count = int(grid.prod()) // 4
    ids = torch.tensor([[1, 2, START, *[VIDEO] * count, END, 3, 4]])
    return dict(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=2 * (ids == VIDEO).int(),
        pixel_values_videos=made["pixel_values_videos"],
        video_grid_thw=grid,
        second_per_grid_ts=torch.tensor([1.0]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_seconds_of_each_stage(benchmark, name, model, inputs, path):
    processor = load("tiny-qwen")[1]
    reduce_tokens(model, recipe(name, keep=0.1))
    seconds: list[dict[str, float]] = []

    def once():
        with torch.no_grad():
            model(**inputs)
        made = prepare(path, processor, "what moves?", recipe(name, keep=0.1))
        seconds.append({**made.seconds, **model.vtc.report.seconds})

    benchmark.pedantic(once, rounds=3, warmup_rounds=1)
    phases = ("look", "choose", "read", "encode", "select", "merge")
    spent = {phase: 1e3 * median(s.get(phase, 0.0) for s in seconds[1:]) for phase in phases}
    kept, total = model.vtc.report.after, model.vtc.report.before
    assert kept <= 0.11 * total or name == "evs-vllm"
    print(f"\n| `{name}` | {kept} of {total} | {' | '.join(f'{spent[phase]:.0f}' for phase in phases)} |")
