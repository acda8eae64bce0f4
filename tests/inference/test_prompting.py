"""Frames with their times, and the way from questions and media to a model's inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.video_utils import VideoMetadata

from vtc.inference.loading import load
from vtc.inference.prompting import frames_are_images, inputs, processed
from vtc.media.video_frames import VideoFrames


def shades(count: int, size: int = 96) -> np.ndarray:
    return np.stack([np.full((size, size, 3), 20 * i + 10, np.uint8) for i in range(count)])


@pytest.mark.parametrize("seconds", [[0.0, 0.5, 1.0, 1.5], [0.0, 0.4, 1.7, 9.0], [3.0, 3.5, 4.0, 4.5], [2.5]], ids=str)
def test_processors_are_told_the_true_times(seconds):
    frames = VideoFrames(shades(len(seconds)), np.array(seconds), 10.0)
    told = VideoMetadata(**frames.metadata())
    assert told.timestamps == pytest.approx(seconds, abs=5e-4)
    assert told.duration == 10.0
    assert max(told.frames_indices) < told.total_num_frames
    assert (told.height, told.width) == (96, 96)


@pytest.mark.parametrize("fps", [1.0, 2.0, 25.0, 30000 / 1001])
def test_all_frames_of_an_even_video_are_numbered_from_0(fps):
    told = VideoFrames.regular(shades(7), fps).metadata()
    assert told["frames_indices"] == list(range(7))
    assert told["total_num_frames"] == 7
    assert told["fps"] == pytest.approx(fps)


@pytest.mark.parametrize(
    ("pixels", "seconds", "message"),
    [
        (shades(2).astype(np.float32), [0, 1], r"pixels are float32 .*expected uint8 \[T, H, W, 3\]"),
        (shades(2)[0], [0, 1], "at least one frame"),
        (shades(2)[:0], [], "at least one frame"),
        (shades(2), [0, 1, 2], "expected an ascending time for each of 2 frames"),
        (shades(2), [1, 0], "ascending"),
        (shades(2), [0, float("nan")], "ascending"),
    ],
)
def test_frames_without_pixels_or_times_are_refused(pixels, seconds, message):
    with pytest.raises(ValueError, match=message):
        VideoFrames(pixels, np.array(seconds, dtype=float), 2.0)


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="fps=0 must be more than 0"):
        VideoFrames.regular(shades(2), 0)


@pytest.mark.parametrize(("name", "images", "tokens"), [("tiny-qwen", False, 2 * 36), ("tiny-internvl", True, 4 * 36)])
def test_a_video_goes_in_whole_beside_a_image(name, images, tokens):
    model, processor = load(name)
    assert frames_are_images(model) is images
    given = inputs(
        model, processor, ["what?", "what is this?"], [VideoFrames.regular(shades(4), 2.0), Image.new("RGB", (96, 96))]
    )
    kinds = [getattr(processor, f"{kind}_token_id", None) for kind in ("image", "video")]
    shown = torch.isin(given["input_ids"], torch.tensor([kind for kind in kinds if kind is not None])).sum(dim=1)
    assert shown[0] == tokens
    assert given["attention_mask"][:, -1].tolist() == [1, 1]
    assert ("pixel_values_videos" in given) is not images


def test_a_processor_without_videos_gets_the_frames_as_images():
    model, processor = load("tiny-llava")
    assert frames_are_images(model)
    frames = VideoFrames.regular(shades(3, 112), 2.0)
    given = processed(processor, ["what?"], [frames])
    assert len(given["pixel_values"]) == 3
    assert int((given["input_ids"] == processor.image_token_id).sum()) == 3 * 196
    alone = [processed(processor, ["what?"], [Image.fromarray(frame)])["pixel_values"][0] for frame in frames.pixels]
    assert torch.equal(given["pixel_values"], torch.stack(alone))
    before = processor.tokenizer.padding_side
    processed(processor, ["what?", "what is it?"], None)
    assert processor.tokenizer.padding_side == before
