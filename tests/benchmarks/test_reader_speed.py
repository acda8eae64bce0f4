"""The reader beside decord and OpenCV themselves: `pytest tests/benchmarks/test_reader_speed.py --benchmark-only`.

Index, 16 spread frames, and all frames of a video of 1,800 frames of 720p with a keyframe every 75. The libraries are
used as their documentation has it, with no check on what they give. Nothing is asserted about time. In an ordinary run
each function runs once, on a short video: those figures mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import decord
import numpy as np
import pytest

from tests.video.videos import number_of, numbered, write
from vtc.video.reading import frames, probe

PICKS = 16


@pytest.fixture(scope="session")
def clip(request, tmp_path_factory) -> tuple[Path, int]:
    """A video, and how many frames it has."""
    measured = request.config.getoption("benchmark_only")
    count, height, width = (1800, 720, 1280) if measured else (60, 72, 128)
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    options = {"preset": "ultrafast", "x264-params": "scenecut=0"}
    return write(path, numbered(count, height, width), gop=75, b_frames=3, options=options), count


def ours(backend: str, isolated: bool) -> Callable:
    def read(path: Path, indices: list[int]) -> list[int | None]:
        chosen = {} if len(indices) > PICKS else {"indices": indices}
        with frames(path, **chosen, backend=backend, isolated=isolated) as reading:
            return [number_of(frame.pixels) for frame in reading]

    return read


def by_decord(path: Path, indices: list[int]) -> list[int | None]:
    reader = decord.VideoReader(str(path))
    return [number_of(reader[index].asnumpy()) for index in indices]


def by_opencv(path: Path, indices: list[int]) -> list[int | None]:
    capture, told, at = cv2.VideoCapture(str(path)), [], 0
    for index in indices:
        if index != at:
            capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        told.append(number_of(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)))
        at = index + 1
    capture.release()
    return told


WAYS = {
    "pyav": ours("pyav", False),
    "pyav-child": ours("pyav", True),
    "decord-held": ours("decord", False),
    "opencv-held": ours("opencv", False),
    "decord": by_decord,
    "opencv": by_opencv,
}


@pytest.mark.parametrize("isolated", [False, True], ids=["here", "child"])
def test_index(clip, isolated, benchmark, request):
    path, count = clip
    rounds = 5 if request.config.getoption("benchmark_only") else 1
    benchmark.group = f"index of {count} frames"
    info = benchmark.pedantic(probe, (path,), {"isolated": isolated}, rounds=rounds)
    assert info.frames == count


@pytest.mark.parametrize("picks", [PICKS, None], ids=["spread", "all"])
@pytest.mark.parametrize("way", WAYS)
def test_frames(clip, way, picks, benchmark, request):
    path, count = clip
    rounds = (3 if picks else 1) if request.config.getoption("benchmark_only") else 1
    indices = list(range(count)) if picks is None else np.linspace(0, count - 1, picks).astype(int).tolist()
    benchmark.group = f"{len(indices)} of {count} frames"
    assert benchmark.pedantic(WAYS[way], (path, indices), rounds=rounds) == indices
