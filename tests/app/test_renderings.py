"""What the page draws of a video whose frames are images to the processor."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessor

from vtc.media.video_frames import VideoFrames
from vtc.viz.visible_crop import view, viewed


def frames():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 80, 3), dtype=np.uint8)
    return VideoFrames(pixels, np.array([0.0, 1.0]), 2.0)


def test_frames_are_seen_as_the_processor_crops_each():
    given, processor = frames(), SimpleNamespace(image_processor=CLIPImageProcessor())
    found = viewed(given, processor)
    assert found.pixels.shape[1] == found.pixels.shape[2], "a square out of the middle"
    one = view(Image.fromarray(given.pixels[1]), processor.image_processor)
    assert np.array_equal(found.pixels[1], np.asarray(one))
    assert not np.array_equal(found.pixels[0], found.pixels[1])
    assert np.array_equal(found.seconds, given.seconds)


def test_a_processor_of_videos_or_one_of_unknown_steps_leaves_frames_alone(state):
    given = frames()
    assert viewed(given, state.video_model.processor) is given
    assert viewed(given, SimpleNamespace(image_processor=object())) is given
