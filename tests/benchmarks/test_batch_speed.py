"""Eight questions about one video, shared and each for itself, beside the speed-up that the stages' seconds allow."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pytest

from tests.video.films import write
from vtc.video.batch import Answerer, Group, Job, Question

RATE, ROUNDS = 25, 3
ASKED = ("what appears?", "what disappears?", "what moves?", "how many shots are in the video?")
ASKED += ("what color is the ball?", "where is the red square?", "how many cuts are there?", "what happens first?")


@pytest.fixture(scope="module")
def answerer():
    return Answerer(Job(dtype="float32", max_new_tokens=8))


def film(path, seconds):
    """Five-second shots that pan over pictures of their own, of 320 x 180."""
    rough = np.random.default_rng(0).integers(0, 256, (seconds // 5, 16, 24, 3), dtype=np.uint8)
    wide = rough.repeat(20, axis=1).repeat(20, axis=2)
    frames = (wide[at // (5 * RATE), at % (5 * RATE) :][:180, :320] for at in range(seconds * RATE))
    return write(path, (np.ascontiguousarray(frame) for frame in frames), fps=RATE, gop=50)


def timed(answerer, groups):
    """Seconds that all `groups` take one after the other, and their rows."""
    begun = time.perf_counter()
    rows = [row for group in groups for row in answerer.answer(group)]
    return time.perf_counter() - begun, rows


def allowed(rows):
    """How much faster unshared `rows` would be if all but decoding were done once."""
    own = sum(row["seconds"]["decode"] for row in rows)
    every = sum(sum(row["seconds"].values()) for row in rows)
    return every / ((every - own) / len(rows) + own)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [10, 60])
def test_eight_questions_of_one_video(answerer, tmp_path, seconds):
    path = str(film(tmp_path / "film.mp4", seconds))
    questions = [Question(str(i), path, text) for i, text in enumerate(ASKED)]
    together, apart = [Group(tuple(questions))], [Group((question,)) for question in questions]
    timed(answerer, together)
    rounds = [(timed(answerer, together), timed(answerer, apart)) for _ in range(ROUNDS)]
    shared, whole = rounds[0][0][1], rounds[0][1][1]
    assert [row["answer"] for row in shared] == [row["answer"] for row in whole]
    assert all(row["error"] is None for row in shared)
    gained = median(alone / one for (one, _), (alone, _) in rounds)
    bound = median(allowed(rows) for _, (_, rows) in rounds)
    one, alone = (median(times) for times in zip(*((a[0], b[0]) for a, b in rounds), strict=True))
    print(
        f"\n{seconds} s, {shared[0]['tokens_kept']} of {shared[0]['tokens_full']} tokens: shared {one:.2f} s, unshared "
        f"{alone:.2f} s, {gained:.2f} times as fast; the stages allow {bound:.2f}: {gained / bound:.0%}"
    )
    assert gained >= 0.8 * bound
