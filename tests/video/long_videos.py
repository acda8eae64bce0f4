"""Videos of any length that are quickly made: scenes that change slowly, never twice alike, and one short shot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from vtc.embedded.backgrounds import ground
from vtc.embedded.spec import GROUNDS

SIDE, FPS = 96, 5
SCENE = 150
"""Seconds of a scene."""


def long_video(path: Path, seconds: int, shot: np.ndarray, at: float, *, shown: float = 3.0, gop: int = 50) -> Path:
    """Writes a video of `seconds` to `path` that shows `shot` `[SIDE, SIDE, 3]` for `shown` seconds from `at` on.

    The suffix says the container; a keyframe stands every `gop` frames.
    """
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "crf": "20", "bf": "0", "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", gop
        stream.codec_context.thread_count = 1
        first, end = round(at * FPS), round((at + shown) * FPS)
        for number, frame in enumerate(scenery(seconds * FPS)):
            drawn = shot if first <= number < end else frame
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def scenery(frames: int) -> Iterator[np.ndarray]:
    """Frames `[SIDE, SIDE, 3]`, scene after scene: a pan over a ground on which nothing stands, in a slow light."""
    for number in range(frames):
        scene, step = divmod(number, SCENE * FPS)
        if step == 0:
            rng = np.random.Generator(np.random.PCG64([7, scene]))
            wide = ground(rng, GROUNDS[scene % len(GROUNDS)], 2 * SIDE, SIDE)
        left = step * SIDE // (SCENE * FPS)
        light = np.int16(round(12 * np.sin(number / 97)))
        frame = np.ascontiguousarray(wide[:, left : left + SIDE]).astype(np.int16) + light
        # A few pixels that count, so that no frame is another's repeat.
        frame[-1, :16] = 32 + 64 * (number >> np.arange(16) & 1)[:, None]
        yield np.clip(frame, 0, 255).astype(np.uint8)
