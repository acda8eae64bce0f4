"""A recorder leaves the prompt out and times each token."""

from __future__ import annotations

import pytest
import torch

from vtc.core.token_recorder import TokenRecorder


def test_the_first_token_is_the_second_thing_that_generate_hands_over():
    recorder = TokenRecorder()
    recorder.put(torch.tensor([[5, 6, 7]]))
    assert (recorder.tokens, recorder.at, recorder.first, recorder.next) == ([], [], None, None)
    recorder.put(torch.tensor([8]))
    assert recorder.first > 0
    assert recorder.next is None
    for _ in range(2):
        recorder.put(torch.tensor([9]))
    recorder.end()
    assert recorder.tokens == [8, 9, 9]
    assert recorder.begun < recorder.at[0] <= recorder.at[1] <= recorder.at[2]
    assert recorder.next == pytest.approx((recorder.at[2] - recorder.at[0]) / 2)
