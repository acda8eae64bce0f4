"""The interval of right answers: the same for the same answers, whatever their order and their media's names."""

from __future__ import annotations

import numpy as np
import pytest

from vtc.core.statistics import Interval, intervals, share_right


def test_names_and_order_do_not_matter():
    rng = np.random.default_rng(0)
    media, right = rng.integers(0, 6, 30), rng.random(30) < 0.6
    expected = share_right(media.tolist(), right.tolist())
    assert 0 < expected.low < expected.mean < expected.high < 1
    for _ in range(5):
        order = rng.permutation(30)
        names = [f"{rng.integers(1e9)}-{i}" for i in range(6)]
        assert share_right([names[media[i]] for i in order], right[order].tolist()) == expected


def test_it_is_the_bootstrap_over_media():
    media, right = [0, 0, 0, 1, 1, 2, 3], [1, 1, 0, 1, 0, 1, 0]
    found = share_right(media, right)
    plain = intervals(np.array(right, float)[:, None], np.array(media))[0]
    assert found.mean == plain.mean == pytest.approx(4 / 7)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.1)


def test_all_right_is_no_certainty():
    assert share_right(range(10), [True] * 10).low == pytest.approx(0.7225, abs=1e-3)  # Wilson's of ten of ten
    assert share_right(range(10), [False] * 10).high == pytest.approx(0.2775, abs=1e-3)


def test_of_one_medium_or_none_nothing_is_known():
    assert share_right([], []) == Interval(None, None, None)
    assert share_right(["a", "a"], [True, False]) == Interval(0.5, None, None)
