"""Answers about drawn videos from frames chosen in different ways where the file is read: by color, tower or question.

`tiny-qwen` is asked by `vtc.video.ask` with the recipe `keyframes`, which leaves whole frames out, and the changes of
`ROWS`: the choice of frames is all that differs. `vtc bench quality` cannot measure them, since a wrapped model sees no
file. `pytest tests/benchmarks/test_keyframes_quality.py -m slow -s` prints the table.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from vtc.core.statistics import intervals
from vtc.embedded.exam import exact
from vtc.embedded.video import HELD_OUT, Video
from vtc.inference.loading import load
from vtc.recipes.named import recipe
from vtc.recipes.overrides import changed
from vtc.video import Sampling, ask

KEEP, VIDEOS, EACH = 0.25, 40, 3
"""The share of tokens, videos, and questions about each."""
BASE = "maxmin"
ROWS = {
    BASE: {},
    "uniform": {"keyframes": "uniform"},
    "change": {"keyframes": "change"},
    "kffocus": {"keyframes": "kffocus"},
    "segments": {"keyframes": "segments"},
    "segments, even:parts=4": {"keyframes": "segments", "segmenter": "even:parts=4"},
    "segments, content": {"keyframes": "segments", "segmenter": "content"},
    "dcode": {"keyframes": "dcode"},
    "maxmin, tower": {"features": "tower"},
    "dcode, tower": {"keyframes": "dcode", "features": "tower"},
    "aks, model": {"keyframes": "aks"},
    "mmr, model": {"keyframes": "mmr"},
    "mmr, model, tower": {"keyframes": "mmr", "features": "tower"},
}


@pytest.mark.slow
def test_the_table(tmp_path):
    model, processor = load("tiny-qwen")
    videos = [Video(seed) for seed in range(HELD_OUT, HELD_OUT + VIDEOS)]
    paths = [video.save(tmp_path / f"{video.seed}.mp4") for video in videos]
    right: dict[str, list[float]] = {name: [] for name in ROWS}
    scene = []
    for i, (video, path) in enumerate(zip(videos, paths, strict=True)):
        for question in islice(video.questions, EACH):
            scene.append(i)
            for name, changes in ROWS.items():
                made = changed(recipe("keyframes", keep=KEEP), **changes)
                said = ask(model, processor, path, question.question, made, sampling=Sampling(isolated=False))
                right[name].append(float(exact(said.text, question.answer)))
    scores = {name: np.array(values) for name, values in right.items()}
    against = np.stack([values - scores[BASE] for values in scores.values()], axis=1)
    found = intervals(against, np.array(scene))
    print(f"\n{len(scene)} questions about {VIDEOS} videos, keep {KEEP}\n| frames by | exact match | against {BASE} |")
    for (name, values), one in zip(scores.items(), found, strict=True):
        print(f"| {name} | {100 * values.mean():.1f} | {100 * one.low:+.1f} to {100 * one.high:+.1f} |")
    assert all(len(values) == len(scene) for values in scores.values())
