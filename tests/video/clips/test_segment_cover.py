"""From cuts to clips: the cover, the bounds on lengths, equal parts; against slow oracles."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtc.video.clips.clip import Clip, check_cover
from vtc.video.clips.segmenters import (
    EvenSegmenter,
    SceneCut,
    segment,
    to_clips,
)
from vtc.video.clips.segmenters.divide import edges, equal_parts, short_parts

SLACK = 1e-6


@st.composite
def times(draw, most: int = 12) -> list[float]:
    """Times of frames: even, or as they come, in eighths of a second."""
    frames = draw(st.integers(1, most))
    if draw(st.booleans()):
        step = draw(st.sampled_from([0.1, 0.5, 1 / 3]))
        return [i * step for i in range(frames)]
    steps = draw(st.lists(st.integers(1, 40), min_size=frames, max_size=frames))
    return [sum(steps[: i + 1]) / 8 for i in range(frames)]


@st.composite
def cut_series(draw) -> tuple[list[float], list[SceneCut]]:
    """Times, and cuts of few different scores."""
    seconds = draw(times())
    at = draw(st.sets(st.integers(1, len(seconds) - 1))) if len(seconds) > 1 else set()
    return seconds, [SceneCut(i, seconds[i], draw(st.integers(1, 4)) / 4) for i in sorted(at)]


bounds = st.tuples(st.integers(0, 24), st.integers(1, 48) | st.none()).map(
    lambda b: (b[0] / 8, math.inf if b[1] is None else max(b[0], b[1]) / 8)
)


def lengths(starts, end, time) -> list[float]:
    return [time[b] - time[a] for a, b in pairwise([*starts, end])]


def holds(starts, end, time, longest) -> bool:
    """Whether every part is short enough or a single frame."""
    parts = pairwise([*starts, end])
    return all(time[b] - time[a] <= longest + SLACK or b == a + 1 for a, b in parts)


def divisions(start, end, parts):
    """All ways to cut [start, end) into so many parts."""
    return ([start, *rest] for rest in combinations(range(start + 1, end), parts - 1))


@given(seconds=times(9), longest=st.integers(1, 60).map(lambda n: n / 8), data=st.data())
def test_short_parts_are_as_few_as_can_be(seconds, longest, data):
    time, end = edges(seconds), data.draw(st.integers(1, len(seconds)))
    start = data.draw(st.integers(0, end - 1))
    got = short_parts(time, start, end, longest)
    assert got[0] == start
    assert sorted(set(got)) == got
    assert got[-1] < end
    assert holds(got, end, time, longest)
    fewer = range(1, len(got))
    assert not any(holds(cut, end, time, longest) for n in fewer for cut in divisions(start, end, n))
    equal = equal_parts(time, start, end, len(got))
    if holds(equal, end, time, longest):
        assert got == equal


def test_short_parts_leave_room_for_those_to_come():
    # Two even thirds would leave [2, 4) at 10 s; the third part must begin at 3.
    assert short_parts([0, 5, 7, 15, 17], 0, 4, 7) == [0, 2, 3]


@given(seconds=times(9), data=st.data())
def test_equal_parts_begin_where_they_should(seconds, data):
    time, end = edges(seconds), len(seconds)
    parts = data.draw(st.integers(1, end))
    got = equal_parts(time, 0, end, parts)
    assert len(set(got)) == parts
    due = [time[0] + (time[-1] - time[0]) * j / parts for j in range(parts)]
    if parts < 3:  # each is free but for its neighbours
        off = [abs(time[i] - at) for i, at in zip(got, due, strict=True)]
        best = min(sum(abs(time[i] - at) for i, at in zip(way, due, strict=True)) for way in divisions(0, end, parts))
        assert sum(off) <= best + 2 * SLACK


@pytest.mark.parametrize(("frames", "parts"), [(10, 1), (10, 2), (10, 3), (10, 10), (16, 4), (33, 7)])
def test_parts_of_even_frames_differ_by_one_frame(frames, parts):
    starts = equal_parts(edges([i / 2 for i in range(frames)]), 0, frames, parts)
    sizes = [b - a for a, b in pairwise([*starts, frames])]
    assert max(sizes) - min(sizes) <= 1
    with pytest.raises(ValueError, match=f"parts={frames + 1} of {frames} frames"):
        equal_parts(edges(list(range(frames))), 0, frames, frames + 1)


def by_hand(seconds, cuts, shortest, longest) -> list[Clip]:
    """The rule in plain words, one stretch at a time."""
    time, frames = edges(seconds), len(seconds)

    def parts(a, b):
        return [a] if longest == math.inf else short_parts(time, a, b, longest)

    taken: dict[int, SceneCut] = {}
    left = list(cuts)
    while left:
        best = max(left, key=lambda cut: (cut.score, -cut.index))
        left.remove(best)
        below = max([0, *(i for i in taken if i < best.index)])
        above = min([frames, *(i for i in taken if i > best.index)])
        sides = ((below, best.index), (best.index, above))
        if all(min(lengths(parts(a, b), b, time)) >= shortest - SLACK for a, b in sides):
            taken[best.index] = best
    found = []
    for a, b in pairwise(sorted({0, frames, *taken})):
        for i, (c, d) in enumerate(pairwise([*parts(a, b), b])):
            if i == 0 and a in taken:
                found.append(Clip(c, d, taken[a].reason, taken[a].score))
            else:
                found.append(Clip(c, d, "start" if c == 0 else "length"))
    return found


@given(case=cut_series(), bound=bounds)
def test_clips_follow_the_rule(case, bound):
    seconds, cuts = case
    got = to_clips(cuts, seconds, min_seconds=bound[0], max_seconds=bound[1])
    check_cover(got, len(seconds))
    assert list(got) == by_hand(seconds, cuts, *bound)
    assert to_clips(cuts[::-1], seconds, min_seconds=bound[0], max_seconds=bound[1]) == got


@given(case=cut_series(), bound=bounds)
def test_lengths_are_kept_wherever_they_can_be(case, bound):
    seconds, cuts = case
    time = edges(seconds)
    shortest, longest = bound
    got = to_clips(cuts, seconds, min_seconds=shortest, max_seconds=longest)
    assert holds([clip.start for clip in got], len(seconds), time, longest)
    plain = to_clips([], seconds, min_seconds=shortest, max_seconds=longest)
    spans = [time[clip.end] - time[clip.start] for clip in plain]
    if min(spans) >= shortest - SLACK or any(clip.reason == "cut" for clip in got):
        assert min(time[clip.end] - time[clip.start] for clip in got) >= shortest - SLACK
    else:
        assert got == plain


@given(case=cut_series())
def test_without_bounds_every_cut_is_taken(case):
    seconds, cuts = case
    assert [clip.start for clip in to_clips(cuts, seconds)] == [0, *(cut.index for cut in cuts)]
    assert [clip.score for clip in to_clips(cuts, seconds)] == [0, *(cut.score for cut in cuts)]


def half(cuts: dict[int, float], frames: int, **bound) -> list[tuple[int, int, str]]:
    seconds = [i / 2 for i in range(frames)]
    found = to_clips([SceneCut(i, i / 2, score) for i, score in cuts.items()], seconds, **bound)
    return [(clip.start, clip.end, clip.reason) for clip in found]


def test_the_higher_score_wins_and_the_earlier_of_equals():
    assert half({4: 0.5, 5: 0.9}, 10, min_seconds=1.0) == [(0, 5, "start"), (5, 10, "cut")]
    assert half({4: 0.5, 5: 0.5}, 10, min_seconds=1.0) == [(0, 4, "start"), (4, 10, "cut")]
    assert half({1: 0.9, 9: 0.9}, 10, min_seconds=1.0) == [(0, 10, "start")]


def test_long_clips_are_cut_evenly():
    assert half({}, 10, max_seconds=2.0) == [(0, 3, "start"), (3, 7, "length"), (7, 10, "length")]
    assert half({2: 1.0}, 10, max_seconds=2.0) == [(0, 2, "start"), (2, 6, "cut"), (6, 10, "length")]


def test_bounds_that_cannot_both_be_kept():
    assert half({4: 1.0}, 10, min_seconds=6.0) == [(0, 10, "start")]
    # 5 s has no parts of 3 to 4 s: none is longer, and the cut would not help.
    assert half({4: 1.0}, 10, min_seconds=3.0, max_seconds=4.0) == [(0, 5, "start"), (5, 10, "length")]
    # A cut at 3 s leaves 5 s, which does not fit; one at 4 s does.
    assert half({6: 0.9, 8: 0.5}, 16, min_seconds=3.0, max_seconds=4.0) == [(0, 8, "start"), (8, 16, "cut")]


def test_a_single_long_frame_stops_no_cut():
    seconds = [0.0, 1.0, 2.0, 30.0, 31.0, 32.0]
    clips = to_clips([SceneCut(4, 31.0, 1.0)], seconds, min_seconds=1.0, max_seconds=5.0)
    assert [(clip.start, clip.end, clip.reason) for clip in clips] == [
        (0, 2, "start"),
        (2, 3, "length"),
        (3, 4, "length"),
        (4, 6, "cut"),
    ]


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({"min_seconds": -1}, "min_seconds=-1 .*at least 0"),
        ({"max_seconds": 0}, "max_seconds=0 .*above 0"),
        ({"min_seconds": 2, "max_seconds": 1}, "max_seconds=1 is below min_seconds=2"),
        ({"max_seconds": math.nan}, "max_seconds=nan"),
        ({"min_seconds": "1"}, "min_seconds='1' is a str"),
    ],
)
def test_bounds_are_checked(bound, message):
    with pytest.raises((ValueError, TypeError), match=message):
        to_clips([], [0.0, 1.0], **bound)
    with pytest.raises((ValueError, TypeError), match=message):
        to_clips([], [], **bound)


def test_times_and_cuts_are_checked():
    with pytest.raises(ValueError, match=r"seconds=0\.5 of frame 2 .*after 1\.0"):
        to_clips([], [0.0, 1.0, 0.5])
    for index in (0, 2, -1):
        with pytest.raises(ValueError, match=rf"cuts .*Cut\(index={index},.* 2 frames .*1 to 1"):
            to_clips([SceneCut(index, 0.0, 1.0)], [0.0, 1.0])


def test_even_clips():
    seconds = [i / 2 for i in range(10)]
    assert [clip.start for clip in segment(range(10), seconds, EvenSegmenter(parts=3))] == [0, 3, 7]
    assert [clip.start for clip in segment(range(10), seconds, EvenSegmenter(parts=99))] == list(range(10))
    assert [clip.start for clip in segment(range(10), seconds, EvenSegmenter(every=1.5))] == [0, 3, 6, 9]
    assert {clip.reason for clip in segment(range(10), seconds, EvenSegmenter(every=1.5))} == {"start", "even"}
    # Frames that come late or not at all: the grid of times stays where it is.
    assert [clip.start for clip in segment(range(5), [0.0, 0.9, 1.2, 5.5, 5.9], EvenSegmenter(every=1.0))] == [0, 2, 3]
    # Binary floats: 1.0 - 0.9 is below 0.1.
    assert [clip.start for clip in segment(range(3), [0.9, 1.0, 1.1], EvenSegmenter(every=0.1))] == [0, 1, 2]
    assert [clip.start for clip in segment(range(7), [i * 0.1 for i in range(7)], EvenSegmenter(every=0.3))] == [
        0,
        3,
        6,
    ]


def test_a_wrong_rule_would_be_noticed():
    """Negative control: the rule by hand tells which cut was taken first."""
    cuts = [SceneCut(4, 2.0, 0.5), SceneCut(5, 2.5, 0.9)]
    seconds = [i / 2 for i in range(10)]
    upside_down = [SceneCut(cut.index, cut.seconds, 1 - cut.score) for cut in cuts]
    assert by_hand(seconds, cuts, 1.0, math.inf) != by_hand(seconds, upside_down, 1.0, math.inf)
    assert not holds([0], 10, edges(seconds), 4.0)
