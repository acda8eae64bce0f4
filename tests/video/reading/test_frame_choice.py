"""Which frames an index, a time or a rate means, against a slow loop; sizes."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtc.video.reading import Info, Limits, frames
from vtc.video.reading.frame_choice import Choice
from vtc.video.reading.pixels import output_size
from vtc.video.reading.rotation import Turn


def info(seconds, duration=None, width=64, height=48, is_vfr=False) -> Info:
    """A video whose frames are shown at `seconds`."""
    seconds = np.array(seconds, dtype=np.float64)
    duration = float(seconds[-1]) + 0.1 if duration is None else duration
    return Info(
        path="x.mp4",
        container="mov,mp4,m4a,3gp,3g2,mj2",
        codec="h264",
        width=width,
        height=height,
        rotation=0,
        mirrored=False,
        bits=8,
        alpha="",
        frames=len(seconds),
        seconds=seconds,
        start=0.0,
        timed=True,
        duration=duration,
        fps=len(seconds) / duration if duration else 0.0,
        is_vfr=is_vfr,
        keyframes=np.array([0]),
    )


TEN = info(np.arange(10) / 10)


@st.composite
def videos(draw) -> Info:
    """Frames at thirtieths of a second, some of them longer than others."""
    gaps = draw(st.lists(st.integers(1, 9), max_size=12))
    ticks = np.cumsum([0, *gaps])
    return info(ticks / 30, float(ticks[-1] + draw(st.integers(1, 9))) / 30)


def shown_slowly(video: Info, time: Fraction) -> int:
    """The last frame that is not later than `time`."""
    last = 0
    for index, seconds in enumerate(video.seconds):
        if Fraction(round(seconds * 30), 30) <= time:
            last = index
    return last


@given(videos(), st.lists(st.integers(0, 400), min_size=1, max_size=8))
def test_a_time_means_the_frame_shown_then(video, ticks):
    # Sixtieths, so that some times are those of frames and none is between a frame and its rounding.
    times = [Fraction(tick, 60) for tick in ticks if tick / 60 < video.duration]
    if times:
        expected = sorted({shown_slowly(video, time) for time in times})
        assert Choice(seconds=[float(time) for time in times]).of(video).tolist() == expected


@given(videos(), st.sampled_from([1, 2, 3, 5, 10, 15, 30, 60]), st.integers(0, 30), st.integers(1, 60))
def test_a_rate_means_the_frames_shown_at_even_times(video, fps, start, length):
    begin, end = Fraction(start, 60), Fraction(start + length, 60)
    if begin > Fraction(round(video.seconds[-1] * 30), 30):
        return
    expected, at = [], begin
    while at < min(end, Fraction(round(video.duration * 30), 30)):
        expected.append(shown_slowly(video, at))
        at += Fraction(1, fps)
    chosen = Choice(fps=fps, start=float(begin), end=float(end)).of(video).tolist()
    assert chosen == sorted(set(expected))


@given(videos(), st.integers(0, 120), st.integers(1, 120))
def test_a_stretch_holds_the_frames_that_begin_in_it(video, start, length):
    begin, end = Fraction(start, 60), Fraction(start + length, 60)
    ticks = [Fraction(round(seconds * 30), 30) for seconds in video.seconds]
    expected = [index for index, time in enumerate(ticks) if begin <= time < end]
    choice = Choice(start=float(begin), end=float(end))
    if expected:
        assert choice.of(video).tolist() == expected
    else:
        with pytest.raises(ValueError, match="start="):
            choice.of(video)


def test_the_slow_loop_tells_a_frame_too_late():
    """Control: rounding a time to the nearest frame, as index = round(time * fps) does, is told."""
    nearest = round(0.16 * 10)
    assert nearest == 2 != shown_slowly(info([0, 1 / 10, 2 / 10]), Fraction(16, 100))


def test_nothing_means_everything():
    assert Choice().of(TEN).tolist() == list(range(10))
    assert Choice().of(info([0.0], 0.0)).tolist() == [0]
    assert Choice(fps=2).of(info([0.0], 0.0)).tolist() == [0]
    assert Choice(seconds=[0.0]).of(info([0.0], 0.0)).tolist() == [0]


def test_times_rounded_by_a_container_mean_what_was_meant():
    milliseconds = info(np.round(np.arange(30) / 30, 3))
    assert Choice(seconds=np.arange(30) / 30).of(milliseconds).tolist() == list(range(30))
    assert Choice(fps=30).of(milliseconds).tolist() == list(range(30))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"indices": [0], "fps": 2}, ValueError, "one way"),
        ({"indices": [0], "start": 1}, ValueError, "leave them out"),
        ({"indices": []}, ValueError, "at least one"),
        ({"indices": [3, 2]}, ValueError, "2 after 3"),
        ({"indices": [3, 3]}, ValueError, "3 after 3"),
        ({"indices": [10]}, ValueError, "frames 0 to 9"),
        ({"indices": [-1]}, ValueError, "holds -1"),
        ({"indices": [1.0]}, TypeError, "float"),
        ({"indices": [True]}, TypeError, "bool"),
        ({"seconds": []}, ValueError, "at least one"),
        ({"seconds": [math.nan]}, ValueError, "nan"),
        ({"seconds": [-0.1]}, ValueError, "-0.1"),
        ({"seconds": [1.2]}, ValueError, "1.2"),
        ({"fps": 0}, ValueError, "above 0"),
        ({"fps": math.inf}, ValueError, "fps=inf .*above 0"),
        ({"fps": "2"}, TypeError, "str"),
        ({"start": 2.0}, ValueError, "start=2.0"),
        ({"start": 0.5, "end": 0.5}, ValueError, "before end"),
        ({"start": -1.0}, ValueError, "start=-1.0"),
        ({"start": math.nan}, ValueError, "nan"),
    ],
)
def test_choices_that_mean_nothing_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        Choice(**arguments).of(TEN)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 3000))
def test_the_longer_side_is_bound_and_nothing_grows(width, height, side):
    got = output_size(info([0.0], width=width, height=height), side, 10**9)
    assert 1 <= min(got) <= max(got) <= max(side, 1)
    assert got[0] <= width
    assert got[1] <= height
    assert max(got) == min(side, max(width, height))


@pytest.mark.parametrize(
    ("resize", "error"), [(0, ValueError), ((3,), ValueError), ((1, 0), ValueError), ("9", TypeError), (2.5, TypeError)]
)
def test_sizes_that_are_none_are_refused(resize, error):
    with pytest.raises(error, match="resize="):
        output_size(TEN, resize, 100)
    with pytest.raises(ValueError, match="100 pixels"):
        output_size(TEN, (11, 10), 100)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [1, -1])
@pytest.mark.parametrize("columns", [1, -1])
def test_a_turn_is_what_it_says(transposed, rows, columns):
    turn, pixels = Turn(transposed, rows, columns), np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    laid = np.rot90(pixels, k=-turn.clockwise // 90)
    assert np.array_equal(turn.apply(pixels), laid[:, ::-1] if turn.mirrored else laid)
    assert turn.size(5, 2) == turn.apply(pixels).shape[1::-1]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"pixels": 0}, ValueError),
        ({"seconds": math.nan}, ValueError),
        ({"frames": 1.5}, TypeError),
        ({"failures": -1}, ValueError),
    ],
)
def test_limits_that_are_none_are_refused(arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        Limits(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"backend": "ffmpeg"}, ValueError),
        ({"on_error": "ignore"}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": math.inf}, ValueError),
    ],
)
def test_other_arguments_are_checked_first(tmp_path, arguments, error):
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with pytest.raises(error, match=next(iter(arguments))):
        frames(tmp_path / "x.mp4", **arguments)
    with pytest.raises(TypeError, match="path="):
        frames(3)
