"""Scoring: images and videos in, exact match by skill out; a sheet of the world to look at."""

import numpy as np
import pytest
import torch
from PIL import Image

from tools.train_embedded import sheet
from tools.train_embedded.evaluate import (
    answer,
    answer_videos,
    asked,
    asked_videos,
    exact,
    exact_match,
)
from tools.train_embedded.model_specs import MODEL_SPECS
from vtc.embedded.spec import HELD_OUT
from vtc.embedded.video import Video


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    model_spec = MODEL_SPECS["tiny-qwen"]
    model = model_spec.build_model().eval()
    # A spread head, so that answers differ from question to question.
    torch.nn.init.normal_(model.lm_head.weight, std=0.5)
    return model, model_spec.build_processor()


def test_questions_come_scene_by_scene_and_video_by_video():
    seeds = range(HELD_OUT, HELD_OUT + 6)
    assert [s.seed for s, _ in asked(seeds, 1)] == list(seeds)
    assert {s.view for s, _ in asked(seeds, 1, "tiny-internvl")} == {"native"}
    assert all(s.shifted for s, _ in asked(seeds, 1, shifted=True))
    assert [f.seed for f, _ in asked_videos(seeds, 1)] == list(seeds)
    assert len(list(asked_videos(seeds))) == sum(len(Video(seed).questions) for seed in seeds)


def test_a_batch_of_videos_is_answered_as_its_singles(untrained):
    videos = [Video(HELD_OUT + i) for i in range(4)]
    questions = [video.questions[0].question for video in videos]
    together = answer_videos(*untrained, videos, questions)
    assert together == [answer_videos(*untrained, [f], [q])[0] for f, q in zip(videos, questions, strict=True)]
    still = [
        answer(*untrained, [Image.fromarray(video.frame(0))], [q])[0]
        for video, q in zip(videos, questions, strict=True)
    ]
    assert together != still


def test_exact_match_counts_by_skill(untrained, monkeypatch):
    todo = list(asked_videos(range(HELD_OUT, HELD_OUT + 4), 3))
    tally = exact_match(*untrained, todo, batch=5)
    assert tally["all"][1] == len(todo) == sum(n for skill, (_, n) in tally.items() if skill != "all")
    truth = {(video.seed, q.question): q.answer for video, q in todo}
    monkeypatch.setattr(
        "tools.train_embedded.evaluate.answer_videos",
        lambda model, processor, videos, questions: [
            truth[f.seed, q].upper() for f, q in zip(videos, questions, strict=True)
        ],
    )
    assert exact_match(*untrained, todo, batch=5)["all"] == (len(todo), len(todo))
    blind = exact_match(*untrained, todo, blind=True)["all"]
    assert blind[1] == len(todo) > blind[0]


def test_exact_is_blind_to_case_and_blanks_alone():
    assert exact(" K7\n", "k7")
    assert not exact("k 7", "k7")
    assert not exact("red", "red star")


def test_the_sheet_shows_every_kind_of_scene(tmp_path):
    sheet.main([str(tmp_path / "world.png")])
    with Image.open(tmp_path / "world.png") as made:
        assert made.size == (8 * 112, 9 * 112)
        rows = np.asarray(made.convert("RGB")).reshape(9, 112, -1)
    assert len({row.tobytes() for row in rows}) == 9
