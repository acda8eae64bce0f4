"""Ranks and means inside the frames of a pool, against plain loops."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.stages.videos import random_video
from vtc.video.stages.ranking import frame_means, frames_of, rank_inside

marks = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30)


@given(marks=marks)
def test_rank_counts_those_before_it_in_its_frame(marks):
    frame, score = (torch.tensor(column) for column in zip(*marks, strict=True))
    wanted = [
        sum(f == frame_of and (s > own or (s == own and j < i)) for j, (f, s) in enumerate(marks))
        for i, (frame_of, own) in enumerate(marks)
    ]
    assert rank_inside(score.float(), frame).tolist() == wanted


@given(marks=marks)
def test_means_are_those_of_each_frame_in_any_order(marks):
    frames, values = zip(*marks, strict=True)
    names = sorted(set(frames))
    frame = torch.tensor([names.index(f) for f in frames])
    rows = torch.tensor(values, dtype=torch.float32)[:, None]
    own = [frames.count(name) for name in names]
    wanted = [sum(v for f, v in marks if f == name) / frames.count(name) for name in names]
    torch.testing.assert_close(frame_means(rows, frame, own)[:, 0], torch.tensor(wanted))


def test_frames_without_a_token_in_the_pool_have_no_number():
    tokens = random_video(5, 2)
    frame, own = frames_of(tokens, torch.tensor([4, 5, 12, 17, 19]))
    assert frame.tolist() == [0, 0, 1, 2, 2]
    assert own == [2, 1, 2]
