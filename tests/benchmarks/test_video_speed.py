"""How much faster than real time a 720p video is looked at, cut, and its keyframes and budgets chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.video.videos import write
from vtc.video.clips.budgets import clip_budget
from vtc.video.clips.frame_features import ColorLayout
from vtc.video.keyframes import MaxMin
from vtc.video.qa.preparing import LOOK
from vtc.video.reading import probe
from vtc.video.reading.sampling import Sampling
from vtc.video.stages import ClipBudget

SECONDS, RATE = 60, 30
CLOSE = Sampling(fps=2, frames=2 * SECONDS)


def scene(seed: int) -> np.ndarray:
    """An image larger than the video, over which it pans."""
    rough = np.random.default_rng(seed).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    return rough.repeat(40, axis=0).repeat(40, axis=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    def frames():
        for at in range(SECONDS * RATE):
            wide = scene(at // (5 * RATE))
            left = at % (5 * RATE)
            yield np.ascontiguousarray(wide[left : left + 720, left : left + 1280])

    return write(tmp_path_factory.mktemp("video") / "pan.mp4", frames(), fps=RATE, gop=60, b_frames=2)


def analyse(path: Path) -> tuple[int, list[int]]:
    """Clips, and the budget of each frame, from the file alone."""
    small, _ = CLOSE.read(path, CLOSE.candidates(probe(path)), LOOK)
    features = ColorLayout().describe(small.pixels)
    stage = ClipBudget()
    clips = stage.clips(features)
    chosen = MaxMin().select(features, len(features) // 4, seconds=small.seconds)
    counts = clip_budget(clips, [256] * len(features), 64 * len(features), stage.weights.weigh(clips, features))
    assert len(chosen) == len(features) // 4
    return len(clips), counts


@pytest.mark.slow
def test_analysis_beside_real_time(benchmark, path):
    clips, counts = benchmark.pedantic(analyse, (path,), rounds=5, warmup_rounds=1)
    assert clips > 1
    assert sum(counts) == 64 * len(counts)
    speed = SECONDS / benchmark.stats["median"]
    print(f"\n{SECONDS} s of 720p at {RATE} frames/s: {benchmark.stats['median']:.2f} s, {speed:.0f} x real time")
    assert speed > 10
