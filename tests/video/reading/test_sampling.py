"""Which frames are looked at, of any video: exact times, keyframes where they may stand in, and no stretch beyond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtc.video.reading import Info
from vtc.video.reading.sampling import Sampling


def video_of(times, keys, duration) -> Info:
    """What `probe` would say of frames shown at `times`."""
    return Info(
        *("x.mp4", "mp4", "h264", 96, 64, 0, False, 8, "", len(times), np.array(times), 0.0, True, duration),
        *(len(times) / duration, True, np.array(keys, dtype=np.int64)),
    )


@given(
    st.lists(st.sampled_from([0.04, 0.2, 1.0, 3.0]), min_size=1, max_size=120),
    st.sampled_from([0.5, 2.0, 7.0]),
    st.integers(1, 40),
    st.sampled_from([None, 0.2, 1.0, 5.0]),
    st.sampled_from([0.0, 0.1, 0.5, 9.0]),
    st.sampled_from([(None, None), (0.0, 4.0), (1.5, None)]),
    st.integers(1, 9),
)
def test_frames_to_look_at(gaps, fps, frames, rate, slack, stretch, gop):
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    duration = float(times[-1] + gaps[-1])
    info = video_of(times, np.arange(0, len(times), gop), duration)
    sampling = Sampling(fps, frames, *stretch, look=rate, slack=slack)
    start, end = stretch[0] or 0.0, stretch[1] or duration
    inside = [i for i, time in enumerate(times) if start <= time < end]
    if not inside:
        with pytest.raises(ValueError, match="start="):
            sampling.scan_indices(info)
        return
    even, looked = sampling.candidates(info), sampling.scan_indices(info)
    assert len(even) <= frames
    assert set(looked.tolist()) <= set(inside)
    assert looked.tolist() == sorted(set(looked.tolist()))
    within = replace(sampling, frames=10_000).candidates(info)
    if rate is None or round((end - start) * fps) <= frames:
        assert np.array_equal(looked, even)
    elif slack == 0:
        assert len(looked) >= len(even)
        last = start - 1 / rate if len(looked) > len(even) and len(looked) < len(inside) else None
        if last is not None:
            # No moment in which frames are shown lies further from a frame that is looked at than a step.
            for time in times[inside]:
                assert min(abs(times[looked] - time)) <= 1 / rate + 1e-3
    assert len(within) >= len(even)


def test_long_videos_are_looked_at_once_a_second_and_short_ones_as_ever():
    hours = video_of(np.arange(7200 * 5) / 5, np.arange(0, 7200 * 5, 10), 7200.0)
    assert Sampling().scan_indices(hours).tolist() == list(range(0, 36000, 5))
    assert len(Sampling().candidates(hours)) == 64
    assert Sampling(look=2.5).scan_indices(hours).tolist() == list(range(0, 36000, 2))
    assert np.array_equal(Sampling(look=None).scan_indices(hours), Sampling().candidates(hours))
    assert np.array_equal(Sampling(look=0.001).scan_indices(hours), Sampling().candidates(hours))
    assert Sampling(start=3600, end=3700).scan_indices(hours).tolist() == list(range(18000, 18500, 5))
    short = video_of(np.arange(160) / 5, np.arange(0, 160, 10), 32.0)
    assert np.array_equal(Sampling().scan_indices(short), Sampling().candidates(short))
    assert np.array_equal(Sampling(look=5).scan_indices(short), Sampling().candidates(short))


def test_slack_takes_keyframes_that_are_near_enough_and_no_others():
    times = np.arange(6000) / 5
    info = video_of(times, np.arange(3, 6000, 10), 1200.0)  # a keyframe at .6 s of every second second
    exact = Sampling().scan_indices(info)
    half = Sampling(slack=0.5).scan_indices(info)
    assert np.isin(half, info.keyframes).sum() == 600
    assert len(half) == len(exact) == 1200
    assert np.abs(times[half] - times[exact]).max() <= 0.5
    assert np.array_equal(Sampling(slack=0.3).scan_indices(info), exact)
    assert np.array_equal(Sampling(slack=1.0).scan_indices(info), info.keyframes)
    inside = Sampling(slack=100, start=300, end=400).scan_indices(info)
    assert times[inside].min() >= 300
    assert times[inside].max() < 400
    assert np.isin(inside, info.keyframes).all()


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"look": 0}, "look=0 .*a number of frames a second above 0, such as 1, or None"),
        ({"look": -1}, "look=-1"),
        ({"look": float("nan")}, "look=nan"),
        ({"look": float("inf")}, "look=inf"),
        ({"look": "1"}, "look='1'"),
        ({"look": True}, "look=True"),
        ({"slack": -0.1}, "slack=-0.1 .*expected a number of seconds from 0"),
        ({"slack": float("nan")}, "slack=nan"),
        ({"slack": None}, "slack=None"),
        ({"fps": float("nan")}, "fps=nan"),
        ({"backend": "x"}, "backend='x' is not known; one of pyav"),
        ({"backend": 5}, "backend=5 is not known"),
    ],
)
def test_rates_that_cannot_be(given_, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Sampling(**given_)
