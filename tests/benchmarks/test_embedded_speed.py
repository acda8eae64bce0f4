"""What an embedded model's answer and a drawn video cost.

`pytest tests/benchmarks/test_embedded_speed.py --benchmark-only`. Nothing is asserted about time; in an
ordinary run each runs once.
"""

from __future__ import annotations

import pytest

from tools.train_embedded.evaluate import answer, load
from vtc.embedded import NAMES, VIEW_OF, video_spec
from vtc.embedded.scene import HELD_OUT, Scene
from vtc.embedded.video import Video


@pytest.mark.parametrize("name", NAMES)
def test_an_answer(name, benchmark, request):
    processor, model = load(name)
    scene = Scene(HELD_OUT + 5000, VIEW_OF[name])
    question = scene.questions[0]
    benchmark.group = "an answer about a drawn image"
    rounds = 5 if request.config.getoption("benchmark_only") else 1
    (found,) = benchmark.pedantic(answer, (model, processor, [scene.image], [question.question]), rounds=rounds)
    assert found == question.answer


def test_a_drawn_video(benchmark, request):
    benchmark.group = f"a video of {video_spec.PIXELS} pixels a side, drawn"
    rounds = 40 if request.config.getoption("benchmark_only") else 1
    pixels = benchmark.pedantic(lambda: Video(0).pixels(video_spec.PIXELS), rounds=rounds)
    assert pixels.shape == (Video(0).frames, video_spec.PIXELS, video_spec.PIXELS, 3)
