"""Times of the frames that are shown, as models take them: steps along an axis, or timestamps in the text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Qwen3VLProcessor, Qwen3VLVideoProcessor

from tests.adapters.test_processors import qwen_processor
from tests.check.test_runner import TEMPLATE
from tests.video.videos import write
from vtc import reduced
from vtc.embedded.video import HELD_OUT, Video
from vtc.inference.loading import load
from vtc.inference.prompting import inputs, processed
from vtc.media.frame_times import on_device
from vtc.media.video_frames import VideoFrames
from vtc.video import Sampling, ask, prepare

EVEN = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
UNEVEN = [3.0, 3.5, 9.0, 9.5, 30.0, 30.5, 31.0, 31.5]
LOSSLESS = {"codec": "libx264rgb", "pixels": "rgb24", "options": {"qp": "0"}}


@pytest.fixture(scope="module")
def qwen():
    return load("tiny-qwen")


def video(seconds, duration: float = 60.0) -> VideoFrames:
    pixels = np.random.default_rng(len(seconds)).integers(0, 255, (len(seconds), 96, 96, 3), dtype=np.uint8)
    return VideoFrames(pixels, np.array(seconds, dtype=float), duration)


def places(model, processor, given, row: int = 0) -> list[int]:
    """Where the model puts units of frames along time, from the first."""
    known = {name: given[name] for name in ("mm_token_type_ids", "video_grid_thw", "second_per_grid_ts")}
    found, _ = model.model.get_rope_index(given["input_ids"], **known, attention_mask=given["attention_mask"])
    shown = found[0, row][given["input_ids"][row] == processor.video_token_id]
    return (shown.unique() - shown.min()).tolist()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (EVEN, [0, 1, 2, 3]),
        ([54 + at for at in EVEN], [0, 1, 2, 3]),
        ([2 * at for at in EVEN], [0, 2, 4, 6]),
        ([54 + at for at in EVEN[:7]], [0, 1, 2, 3]),
        (UNEVEN, [0, 6, 27, 28]),
        ([i / 29.97 for i in range(0, 480, 60)], [0, 4, 8, 12]),
        ([7.0, 7.5], [0]),
        ([7.0], [0]),
    ],
    ids=str,
)
def test_units_of_frames_stand_at_their_own_times(qwen, seconds, expected):
    model, processor = qwen
    given = inputs(model, processor, ["what?"], [video(seconds)])
    # One position a second: `tokens_per_second` of tiny-qwen is 1.
    assert places(model, processor, given) == expected


def test_the_processor_alone_spreads_a_stretch_over_the_whole_video(qwen):
    frames = video([54 + at for at in EVEN])
    slot = f"<|vision_start|>{qwen[1].video_token}<|vision_end|>"
    given = qwen[1](
        text=[slot],
        videos=[[frames.pixels]],
        video_metadata=[[frames.metadata()]],
        do_sample_frames=False,
        return_tensors="pt",
    )
    assert float(given["second_per_grid_ts"][0]) == pytest.approx(15, abs=0.1)


def test_steps_have_the_documented_shape_where_frames_are_even(qwen):
    given = processed(qwen[1], ["what?", "why?"], [video(EVEN), video([2 * at for at in EVEN])])
    assert given["second_per_grid_ts"].tolist() == [1.0, 2.0]


def test_two_uneven_videos_of_as_many_units_have_their_own_times(qwen):
    model, processor = qwen
    given = inputs(model, processor, ["what?", "why?"], [video(UNEVEN), video(EVEN)])
    assert [places(model, processor, given, row) for row in (0, 1)] == [[0, 6, 27, 28], [0, 1, 2, 3]]


def test_uneven_videos_of_unlike_lengths_have_the_mean_step(qwen):
    given = processed(qwen[1], ["what?", "why?"], [video(UNEVEN), video(EVEN[:4])])
    assert given["second_per_grid_ts"].tolist() == pytest.approx([28 / 3, 1.0])


@pytest.mark.parametrize("recipe", [None, "kcenter"])
@pytest.mark.parametrize("beams", [1, 2])
def test_answers_are_those_of_positions_given_by_hand(qwen, recipe, beams):
    model, processor = qwen
    given = inputs(model, processor, ["what appears next?"], [video(UNEVEN)])
    once = {**given, "second_per_grid_ts": torch.ones(1)}
    known = {name: once[name] for name in ("mm_token_type_ids", "video_grid_thw", "second_per_grid_ts")}
    by_hand, _ = model.model.get_rope_index(given["input_ids"], **known)
    shown = given["input_ids"][0] == processor.video_token_id
    times = torch.tensor([0, 6, 27, 28]).repeat_interleave(int(shown.sum()) // 4)
    by_hand[0, 0, shown] = by_hand[0, 0, shown].min() + times
    text = torch.arange(len(shown))[None, None]
    options = {"max_new_tokens": 3, "do_sample": False, "num_beams": beams}
    options |= {"output_logits": True, "return_dict_in_generate": True}

    def logits(**more) -> torch.Tensor:
        return torch.stack(model.generate(**{**more, **options}).logits)

    with reduced(model, recipe or "kcenter", keep=0.5 if recipe else 1.0):
        found, even = logits(**given), logits(**once)
        expected = logits(**once, position_ids=torch.cat([text, by_hand]))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(even, expected, atol=1e-3)


def test_times_keep_their_precision_in_half_precision(qwen):
    _, processor = qwen
    given = processed(processor, ["what?"], [video([33.337 * i for i in range(8)], 300.0)])

    class Half:
        device, dtype = torch.device("cpu"), torch.bfloat16

    sent = on_device(Half, given)
    assert sent["second_per_grid_ts"].tolist() == pytest.approx([66.674])
    assert sent["pixel_values_videos"].dtype == torch.bfloat16
    assert given["pixel_values_videos"].dtype == torch.float32


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    grey = np.full((108, 96, 96, 3), 128, np.uint8)
    pixels = np.concatenate([grey, Video(HELD_OUT).pixels(96)[:12]])
    return write(tmp_path_factory.mktemp("video") / "video.mp4", pixels, fps=2, **LOSSLESS)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(start=54.0, isolated=False), Sampling(end=54.0, frames=16, isolated=False), Sampling(isolated=False)],
    ids=["stretch at the end", "stretch at the start", "whole"],
)
@pytest.mark.parametrize("recipe", ["clip-budget", "video", "uniform", "keyframes"])
def test_frames_that_are_chosen_of_a_file_stand_at_their_own_times(qwen, path, sampling, recipe):
    model, processor = qwen
    made = prepare(path, processor, "what?", recipe, sampling=sampling)
    starts = made.frames.seconds[:: made.temporal_patch_size]
    expected = np.floor(starts - starts[0] + 1e-3).astype(int).tolist()
    assert places(model, processor, made.inputs) == sorted(set(expected))


def test_parts_of_a_plan_stand_at_their_own_times(qwen, path, monkeypatch):
    model, processor = qwen
    steps = []
    generate = type(model).generate

    def noted(self, *args, **kwargs):
        steps.append(kwargs.get("second_per_grid_ts"))
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "generate", noted)
    said = ask(
        model,
        processor,
        path,
        "what?",
        "clip-budget",
        keep=1.0,
        strategy="segment-thought",
        sampling=Sampling(start=54.0, isolated=False),
        max_new_tokens=1,
    )
    assert [call.end - call.start for call in said.calls] == pytest.approx([2, 2, 2, 6])
    assert [float(step[0]) for step in steps if step is not None] == pytest.approx([1.0] * len(said.calls))


def test_timestamps_in_the_text_are_those_of_the_video():
    older = qwen_processor()
    size = dict(older.video_processor.size)
    videos = Qwen3VLVideoProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
    told = []

    class Telling(Qwen3VLProcessor):
        def replace_video_token(self, *args, **kwargs):
            told.append(super().replace_video_token(*args, **kwargs))
            return told[-1]

    whole = Telling(older.image_processor, older.tokenizer, videos)
    whole.chat_template = TEMPLATE
    processed(whole, ["w1"], [video([54 + at for at in EVEN])])
    for at in (54.2, 55.2, 56.2, 57.2):  # the middle of a unit, 54.25 s, to a tenth
        assert f"<{at} seconds>" in told[0]
