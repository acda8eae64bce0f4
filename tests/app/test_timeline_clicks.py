"""A click on a timeline leads to the second that is drawn there, found again in the image's own pixels."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from vtc.app.inference import MediumQuestion, ask, prepared
from vtc.app.renderings import drawn_timeline
from vtc.app.timeline_clicks import HEADER, LANES, ClickableTrack
from vtc.viz.drawing import MARGIN, WIDTH, color_of
from vtc.viz.timeline_tracks import LEFT


@pytest.fixture(scope="module")
def drawn(state, video):
    asked = prepared(state, MediumQuestion(str(video), "what?", "clip-budget", 0.5, True, 1))
    pair = list(ask(state.inference, asked, 1, threading.Event()))[-1]
    return drawn_timeline(asked, pair.short.report)


def strips(image):
    """Left end and top of each coloured strip over a thumbnail, found by the colour of its clip alone."""
    pixels = np.asarray(image)
    found = []
    for y in range(HEADER + LANES, image.height - 64):
        same = (pixels[y] == color_of(0)).all(-1)
        starts = np.flatnonzero(same & ~np.roll(same, 1))
        long = [int(x) for x in starts if same[x : x + 40].all()]
        if long and (not found or y > found[-1][1] + 40):
            found += [(x, y) for x in long]
    return found


def test_a_thumbnail_leads_to_the_beginning_of_its_unit(drawn):
    image, track = drawn
    found = strips(image)
    assert len(found) == len(track.starts) == 4
    assert [track.second(x + 20, y + 30) for x, y in found] == list(track.starts)
    assert [track.second(x - 12, y + 30) for x, y in found[1:]] == list(track.starts[:-1])


def test_the_lanes_lead_to_the_time_under_the_click(drawn):
    _, track = drawn
    right = WIDTH - 2 * MARGIN
    assert track.second(LEFT, HEADER + 60) == pytest.approx(track.starts[0])
    assert track.second(right, HEADER + 60) == pytest.approx(track.end)
    assert track.second((LEFT + right) / 2, HEADER + 60) == pytest.approx((track.starts[0] + track.end) / 2)


@pytest.mark.parametrize("point", [(5, HEADER + 60), (500, 10), (WIDTH - 2, HEADER + LANES + 20), (200, 5000)])
def test_beside_all_marks_a_click_leads_nowhere(drawn, point):
    assert drawn[1].second(*point) is None


def test_a_click_on_a_clip_leads_to_its_beginning():
    track = ClickableTrack((0.0, 1.0, 2.0, 3.0), 4.0, (0.0, 2.0), 4, 100, 100)
    share = (WIDTH - 2 * MARGIN - LEFT) / 4
    along = [track.second(LEFT + share * at, HEADER + 10) for at in (0.5, 1.9, 2.1, 3.9)]
    assert along == [0.0, 0.0, 2.0, 2.0]
    assert track.second(LEFT + share * 1.9, HEADER + 60) == pytest.approx(1.9)
