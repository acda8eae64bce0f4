"""Eight questions about one video, shared and each for itself, beside the speed-up that the stages' seconds allow."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.video.videos import write
from vtc.video.batch import (
    Answerer,
    Group,
    Job,
    Question,
)

RATE, ROUNDS = 25, 3
ASKED = ("what appears?", "what disappears?", "what moves?", "how many shots are in the video?")
ASKED += ("what color is the ball?", "where is the red square?", "how many cuts are there?", "what happens first?")
OWN = ("reduce", "prefill", "decode")
"""The stages of each question's own where the recipe reads the question; of the others the last alone."""


def video(path, seconds):
    """Five-second shots that pan over images of their own, of 320 x 180."""
    rough = np.random.default_rng(0).integers(0, 256, (seconds // 5, 16, 24, 3), dtype=np.uint8)
    wide = rough.repeat(20, axis=1).repeat(20, axis=2)
    frames = (wide[at // (5 * RATE), at % (5 * RATE) :][:180, :320] for at in range(seconds * RATE))
    return write(path, (np.ascontiguousarray(frame) for frame in frames), fps=RATE, gop=50)


def timed(answerer, *questions):
    """Seconds that `questions` take together, and their rows."""
    begun = time.perf_counter()
    rows = list(answerer.answer(Group(questions)))
    return time.perf_counter() - begun, rows


def best(runs):
    """The quickest of `runs`: what else the machine does only ever adds to one."""
    return min(runs, key=lambda run: run[0])


def allowed(rows, own_stages):
    """How much faster unshared `rows` would be if all but `own_stages` were done once."""
    own = sum(row["seconds"][stage] for row in rows for stage in own_stages)
    every = sum(sum(row["seconds"].values()) for row in rows)
    return every / ((every - own) / len(rows) + own)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [10, 60])
@pytest.mark.parametrize(("recipe", "own"), [("video", OWN[-1:]), ("video-question", OWN)])
def test_eight_questions_of_one_video(tmp_path, recipe, own, seconds):
    answerer = Answerer(Job.of(recipe, dtype="float32", max_new_tokens=8))
    path = str(video(tmp_path / "video.mp4", seconds))
    questions = [Question(str(i), path, text) for i, text in enumerate(ASKED)]
    timed(answerer, *questions)
    together, apart = [], [[] for _ in questions]
    for _ in range(ROUNDS):  # in turns, so that both meet the same load
        together.append(timed(answerer, *questions))
        for runs, question in zip(apart, questions, strict=True):
            runs.append(timed(answerer, question))
    one, shared = best(together)
    whole = [best(runs) for runs in apart]
    assert [row["answer"] for row in shared] == [row["answer"] for _, (row,) in whole]
    assert all(row["error"] is None for row in shared)
    alone, bound = sum(took for took, _ in whole), allowed([row for _, (row,) in whole], own)
    gained = alone / one
    kept, full = shared[0]["tokens_kept"], shared[0]["tokens_full"]
    print(
        f"\n{recipe}, {seconds} s, {kept} of {full} tokens: shared {one:.2f} s, unshared {alone:.2f} s, {gained:.2f} "
        f"times as fast; the stages allow {bound:.2f}: {gained / bound:.0%}"
    )
    assert gained >= 0.8 * bound
